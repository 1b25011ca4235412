"""What a training step does and sends, and what a GPU could do: for `train_step.py`."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from metro_ray.models.parameters import count_parameters


def count_operations(step, batch):
    """Multiplications and additions of a step's convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        step.run([batch], lr=1e-4)
    return counter.get_total_flops()


def product_tflops(precision, size=8192, repeats=20):
    """What large matrix products in this arithmetic reach on this GPU, TFLOP/s."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device="cuda", dtype=kind) for _ in range(2))
    left @ right
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        left @ right
    end.record()
    end.synchronize()
    return repeats * 2 * size**3 / (begin.elapsed_time(end) / 1e3) / 1e12


def sent_bytes(model):
    """What ranks exchange each step in float32: our gradients, and METRO's with its dead ones."""
    counts = count_parameters(model)
    ours = sum(p.numel() for p in model.parameters() if p.requires_grad)
    others = ours - counts.ours_transformers - counts.ours_backbone
    metro = counts.metro_transformers + counts.metro_backbone + others
    return {"all_reduced_bytes": 4 * ours, "all_reduced_bytes_metro": 4 * metro}
