"""Flags that make any job of bodies one of seconds."""

TINY = [
    *("--model.mesh", "anny_body", "--arch", "hrnet-w18-small", "--data.crop", "fast"),
    *("--num_hidden_layers", "1", "--num_attention_heads", "1"),
    *("--input_feat_dim", "2051,16", "--hidden_feat_dim", "16,8"),
    *("--num_train_epochs", "1", "--per_gpu_train_batch_size", "4", "--num_workers", "1"),
    *("--run.device", "cpu", "--eval.gallery_images", "0"),
]
