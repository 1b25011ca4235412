"""argv -> TrainConfig: meaning of METRO's flags, precedence, conflicts, refusals, help."""

import logging
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.config.cli import parse_train, split_dotted
from metro_ray.config.keys import all_keys, read_value
from metro_ray.config.load import diff_from_default, load_config, value_of
from metro_ray.errors import ConfigError

BODY_TRAINING = """--train_yaml Tax-H36m-coco40k-Muco-UP-Mpii/train.yaml --val_yaml human3.6m/valid.protocol2.yaml
    --arch hrnet-w64 --num_workers 4 --per_gpu_train_batch_size 30 --per_gpu_eval_batch_size 30
    --num_hidden_layers 4 --num_attention_heads 4 --lr 1e-4 --num_train_epochs 200
    --input_feat_dim 2051,512,128 --hidden_feat_dim 1024,256,128"""
BODY_EVALUATION = """--val_yaml human3.6m/valid.protocol2.yaml --arch hrnet-w64 --num_workers 4
    --per_gpu_eval_batch_size 30 --num_hidden_layers 4 --num_attention_heads 4
    --input_feat_dim 2051,512,128 --hidden_feat_dim 1024,256,128 --run_eval_only"""
FINE_TUNING = """--train_yaml 3dpw/train.yaml --val_yaml 3dpw/test_has_gender.yaml --arch hrnet-w64 --num_workers 4
    --per_gpu_train_batch_size 30 --per_gpu_eval_batch_size 30 --num_hidden_layers 4 --num_attention_heads 4
    --lr 1e-4 --num_train_epochs 5 --input_feat_dim 2051,512,128 --hidden_feat_dim 1024,256,128"""
BODY_3DPW = BODY_EVALUATION.replace("human3.6m/valid.protocol2.yaml", "3dpw/test.yaml")
HAND_TRAINING = """--train_yaml freihand/train.yaml --val_yaml freihand/test.yaml --arch hrnet-w64 --num_workers 4
    --per_gpu_train_batch_size 32 --per_gpu_eval_batch_size 32 --num_hidden_layers 4 --num_attention_heads 4
    --lr 1e-4 --num_train_epochs 200 --input_feat_dim 2051,512,128 --hidden_feat_dim 1024,256,64"""


def parse(kind, line):
    return parse_train(kind, line.split())


def changes(kind, line):
    return diff_from_default(parse(kind, line))


@pytest.mark.parametrize(
    ("kind", "line", "preset"),
    [
        ("body", BODY_TRAINING, "body"),
        ("body", BODY_EVALUATION, "body_eval"),
        ("body", FINE_TUNING, "body_3dpw_finetune"),
        ("body", BODY_3DPW, "body_3dpw_eval"),
        ("hand", HAND_TRAINING, "hand"),
    ],
)
def test_presets_are_the_documented_commands(kind, line, preset):
    assert parse(kind, line) == load_config(kind, preset)


@pytest.mark.parametrize(
    ("line", "preset", "weights"),
    [
        (BODY_EVALUATION, "body_eval", "./models/metro_release/metro_h36m_state_dict.bin"),
        (FINE_TUNING, "body_3dpw_finetune", "models/state_dict.bin"),
        (BODY_3DPW, "body_3dpw_eval", "./models/metro_release/metro_3dpw_state_dict.bin"),
    ],
)
def test_documented_commands_that_start_from_weights(line, preset, weights, caplog):
    """To the letter, with the rank that METRO's launcher adds to every process's flags."""
    config = parse("body", f"--local_rank=0 {line} --resume_checkpoint {weights}")
    wanted = load_config("body", preset)
    assert config == replace(wanted, run=replace(wanted.run, resume_checkpoint=weights))
    assert [record.getMessage().split()[0] for record in caplog.records] == ["--local_rank"]


@pytest.mark.parametrize(
    ("kind", "line", "expected"),
    [
        ("body", "", {}),
        ("body", "--lr 3e-4", {"optim.lr": 3e-4}),
        ("body", "--learning_rate=3e-4", {"optim.lr": 3e-4}),
        ("body", "--learn 3e-4 --num_train 7", {"optim.lr": 3e-4, "optim.epochs": 7}),
        ("body", "-a resnet50", {"model.arch": "resnet50"}),
        ("body", "-aresnet50", {"model.arch": "resnet50"}),
        ("body", "--resume_checkpoint None", {}),
        ("body", "--resume x_state_dict.bin", {"run.resume_checkpoint": "x_state_dict.bin"}),
        ("body", "--run_eval_only", {"eval.only": True}),
        ("body", "--device cpu", {"run.device": "cpu"}),
        ("body", "--output_dir o --logging_steps 5 --seed 3 --num_workers 0 --data_dir d --drop_out 0",
         {"run.output_dir": "o", "run.log_every": 5, "optim.seed": 3, "data.loader_workers": 0,
          "data.root": "d", "model.drop_out": 0.0}),
        ("body", "--vertices_loss_weight 2 --joints_loss_weight 3", {"loss.vertices": 2, "loss.joints": 3}),
        ("body", "--vloss_w_full 1 --vloss_w_sub 2 --vloss_w_sub2 3", {"loss.levels": (3, 2, 1)}),
        ("body", "--vloss_w_full 1", {"loss.levels": (0.33, 0.33, 1)}),
        ("hand", "--vloss_w_full 1 --vloss_w_sub 2", {"loss.levels": (2, 1)}),
        ("hand", "--multiscale --rot -30 --sc 0.8 --aml_eval",
         {"eval.multiscale": True, "eval.rotation_deg": -30, "eval.scale_factor": 0.8, "eval.aml": True}),
        ("body", "--hidden_feat_dim 64,32 --input_feat_dim 2051,64",
         {"model.hidden_feat_dim": (64, 32), "model.input_feat_dim": (2051, 64)}),
        ("body", "--model.hidden_feat_dim [64,32,16]", {"model.hidden_feat_dim": (64, 32, 16)}),
        ("body", "--eval.rotation_deg -1e-3 --eval.only", {"eval.rotation_deg": -1e-3, "eval.only": True}),
        ("body", "--eval.only false --optim.channels_last=no", {"optim.channels_last": False}),
        ("body", "--eval.only --run_eval_only --lr 1e-3 --optim.lr .001", {"eval.only": True, "optim.lr": 1e-3}),
        ("body", "--scaling.train_workers none --run.resume_checkpoint=None", {}),
        ("body", "--run.trackers mlflow,wandb", {"run.trackers": ("mlflow", "wandb")}),
        ("body", "--run.trackers [mlflow,wandb]", {"run.trackers": ("mlflow", "wandb")}),
        ("body", "--run.trackers []", {}),
        ("body", "--run.output_dir=a=b", {"run.output_dir": "a=b"}),
    ],
)  # fmt: skip
def test_what_flags_and_keys_set(kind, line, expected):
    assert changes(kind, line) == expected


def test_task_defaults_are_metros():
    body, hand = parse("body", ""), parse("hand", "")
    assert (body.optim.per_gpu_batch_size, hand.optim.per_gpu_batch_size) == (30, 64)
    assert (body.eval.per_gpu_batch_size, hand.eval.per_gpu_batch_size) == (30, 64)
    assert (body.loss.vertices, body.loss.joints) == (100.0, 1000.0)
    assert (hand.loss.vertices, hand.loss.joints) == (1.0, 1.0)
    assert (body.loss.levels, hand.loss.levels) == ((0.33, 0.33, 0.33), (0.5, 0.5))
    assert (body.model.hidden_feat_dim, hand.model.hidden_feat_dim) == (
        (1024, 256, 128),
        (1024, 256, 64),
    )
    assert (body.run.log_every, hand.run.log_every) == (1000, 100)
    assert (hand.model.num_hidden_layers, hand.model.num_attention_heads) == (4, 4)


@pytest.mark.parametrize("kind", ["body", "hand"])
@pytest.mark.parametrize("flag", ["--num_hidden_layers", "--num_attention_heads"])
def test_minus_one_layers_are_refused_with_the_way_out(kind, flag):
    with pytest.raises(ConfigError, match=f"{flag} must be >= 1, got -1.*BERT's 12.*pass {flag} 4"):
        parse(kind, f"{flag} -1")


def test_precedence(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("optim: {lr: 1e-3, epochs: 3, seed: 1}\nloss: {levels: [1, 2, 3]}\n")
    config = parse(
        "body", f"--preset {preset} --num_train_epochs 4 --vloss_w_full 9 --optim.seed 2"
    )
    assert config.optim.lr == 1e-3
    assert config.optim.epochs == 4
    assert config.optim.seed == 2
    assert config.optim.per_gpu_batch_size == 30
    assert config.loss.levels == (1, 2, 9)


@pytest.mark.parametrize(
    "line",
    [
        "--lr 1e-4 --optim.lr 1e-3",
        "--optim.lr=1e-3 --lr 1e-4",
        "--optim.lr 1e-4 --optim.lr 1e-3",
        "--lr 1e-4 --lr 1e-3 --optim.lr 1e-4",
        "--vloss_w_full 1 --loss.levels 1,1,2",
        "--eval.only false --run_eval_only",
    ],
)
def test_two_values_for_one_key_name_both(line):
    with pytest.raises(ConfigError, match="set twice") as caught:
        parse("body", line)
    assert len(re.findall(r"'--[^']+'", str(caught.value))) == 2


def test_a_metro_flag_given_twice_counts_as_the_last_and_says_so(caplog):
    with caplog.at_level(logging.WARNING, "metro_ray"):
        assert parse("body", "--lr 1e-3 --learning_rate 2e-3").optim.lr == 2e-3
    assert [r.getMessage() for r in caplog.records] == [
        "--learning_rate 0.002 counts, not --lr 0.001"
    ]


@pytest.mark.parametrize(
    "flag",
    ["--img_scale_factor 2", "--model_name_or_path x", "--config_name x", "--hidden_size 9",
     "--intermediate_size 9", "--legacy_setting", "--local_rank 3"],
)  # fmt: skip
def test_flags_without_effect_warn_once_and_change_nothing(flag, caplog):
    with caplog.at_level(logging.WARNING, "metro_ray"):
        assert changes("body", f"{flag} {flag}") == {}
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{flag.split()[0]} has no effect: ")


def test_no_warning_without_such_a_flag(caplog):
    with caplog.at_level(logging.WARNING, "metro_ray"):
        parse("body", BODY_TRAINING)
    assert not caplog.records


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--optim.lrr 1", "unknown setting optim.lrr. Did you mean optim.lr.*Settings of optim: lr, schedule"),
        ("--optm.lr=1", "unknown setting optm.lr. Did you mean optim.lr.*Sections: assets, data"),
        ("--data.lr=1", "unknown setting data.lr. Did you mean optim.lr.*Settings of data: train_yaml"),
        ("--optim.lr abc", "optim.lr must be a number, got 'abc'"),
        ("--optim.lr", "--optim.lr needs a value"),
        ("--optim.lr --seed 3", "--optim.lr needs a value"),
        ("--optim.lr nan", "optim.lr must be finite, got nan"),
        ("--optim.lr -1", "optim.lr must be > 0, got -1.0"),
        ("--optim.epochs 2.5", "optim.epochs must be a whole number, got '2.5'"),
        ("--optim.channels_last=maybe", "optim.channels_last must be true or false, got 'maybe'"),
        ("--run.trackers mlflow,comet", "run.trackers must be a list of mlflow and wandb, got .*comet"),
        ("--run.device tpu", "run.device must be one of auto, cuda, cpu, got 'tpu'"),
        ("--device cuda:1", "--device cuda:1 picks one GPU.*pass --device cuda"),
        ("--device gpu", "run.device must be one of auto, cuda, cpu, got 'gpu'"),
        ("--input_feat_dim 1;2", "--input_feat_dim must be whole numbers with commas.*got '1;2'"),
        ("--num_attention_heads 3", "model.hidden_feat_dim must be multiples of .* = 3"),
        ("--hidden_feat_dim 64", "lists of the same length"),
        ("--model.mesh mano", "model.mesh must be a body model or auto, got 'mano'"),
        ("--preset nope", "unknown preset nope.*body, .*demo"),
        ("--preset nope.yaml", "preset file not found: nope.yaml"),
        ("--preset hand", "preset hand is for kind 'hand', this run is for 'body'"),
        ("--loss.levels 1 --vloss_w_sub2 2", "set twice"),
    ],
)  # fmt: skip
def test_refusals_say_what_and_what_instead(line, message):
    with pytest.raises(ConfigError, match=message):
        parse("body", line)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse("body", "--lr -1 --run.log_every 0 --drop_out 2")
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == ["model.drop_out", "optim.lr", "run.log_every"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--lr x", "argument --lr/--learning_rate: invalid float value: 'x'"),
        ("--vloss 1", "ambiguous option: --vloss could match"),
        ("--epochs 3", "unrecognized arguments: --epochs 3; instead of --epochs: --optim.epochs?"),
        ("--trian_yaml 3", "instead of --trian_yaml: --train_yaml"),
        ("-- --optim.lr 3", "unrecognized arguments"),
        ("--preset body --preset demo", "--preset is given twice: body and demo"),
    ],
)
def test_usage_errors_exit_with_2(line, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parse("body", line)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["body", "hand"])
def test_help_has_every_flag_and_every_key_with_default_and_text(kind, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        parse(kind, "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    default = load_config(kind)
    for key in all_keys().values():
        line, after = text.split(f"--{key.name}  ", 1)[1].split("\n", 2)[:2]
        assert line.startswith(f"{key.expected}; default ")
        shown = line.split("; default ")[1]
        assert read_value(key, shown) == value_of(default, key.name)
        assert len(after.split()) >= 3, key.name
    for flag in (
        "--lr LR, --learning_rate",
        "-a ARCH, --arch",
        "--vloss_w_sub ",
        "--preset NAME|FILE",
    ):
        assert flag in text
    assert ("--vloss_w_sub2" in text) == (kind == "body")


plain_keys = st.sampled_from(
    [
        key
        for key in all_keys().values()
        if key.type in (int, float) and key.name != "data.image_size"
    ]
)


@given(key=plain_keys, number=st.integers(1, 9), joined=st.booleans(), before=st.booleans())
@settings(max_examples=60, deadline=None)
def test_dotted_keys_work_anywhere_in_either_form(key, number, joined, before):
    name = f"--{key.name}"
    given_key = [f"{name}={number}"] if joined else [name, str(number)]
    flags = ["--train_yaml", "t.yaml"]
    rest, found = split_dotted(given_key + flags if before else flags + given_key)
    assert rest == flags
    assert [(s.key, s.value) for s in found] == [(key.name, number)]


def test_help_is_instant_without_torch_ray_or_pydantic():
    code = (
        "import sys; sys.modules.update(torch=None, ray=None, pydantic=None)\n"
        "from metro_ray.config.cli import parse_train\nparse_train('body', ['--help'])"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    took = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    assert "--optim.lr" in done.stdout
    assert took < 5  # 0.15 s here; the machines that run tests are shared
