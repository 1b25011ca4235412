"""A run that was stopped goes on as if it had not been, with everything on that has a state."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from metro_ray.errors import CheckpointError
from metro_ray.training.checkpoint_meta import read_meta
from metro_ray.training.context import LocalWorker
from metro_ray.training.loop import fit
from metro_ray.training.recorder import read_rows

EVERYTHING = {
    "model__drop_out": 0.3,
    "optim__epochs": 4,
    "optim__accumulate_steps": 2,
    "optim__clip_grad_norm": 50.0,
    "optim__ema_decay": 0.9,
    "optim__schedule": "cosine",
    "optim__warmup_steps": 4,
    "optim__backbone_lr_factor": 0.5,
    "optim__lr": 1e-2,
    "run__checkpoint_every": 1,
}
ROWS = 10
"""Five batches an epoch: steps of two, two and one."""


class Killed(Exception):
    pass


def kill_at(epoch, index):
    def spoil(batch, now, number):
        if (now, number) == (epoch, index):
            raise Killed
        return batch

    return spoil


def losses(folder):
    rows = read_rows(folder / "metrics.csv")
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_killed_run_repeats_the_run_that_never_stopped(body, tiny_data, make_config, precision):
    settings = {**EVERYTHING, "optim__precision": precision}
    whole = make_config("whole", **settings)
    fit(whole, LocalWorker("cpu"), tiny_data(num_rows=ROWS), body=body)
    config = make_config("killed", **settings)
    data = tiny_data(num_rows=ROWS, spoil=kill_at(3, 2))
    with pytest.raises(Killed):
        fit(config, LocalWorker("cpu"), data, body=body)
    last = Path(config.run.output_dir) / "checkpoints" / "last"
    meta = read_meta(last)
    assert (meta.epoch, meta.step) == (3, 10), "inside the last epoch"
    assert meta.averaged == 10 - meta.skipped_steps[0] > 3
    assert bool(meta.loss_scale) == (precision == "fp16")

    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    data = tiny_data(num_rows=ROWS)
    fit(config, LocalWorker("cpu", checkpoint=last), data, body=body)
    assert data.asked[0][0] == 3
    expected, continued = losses(Path(whole.run.output_dir)), losses(Path(config.run.output_dir))
    assert list(continued) == list(expected), "those of fp16 that were left out too"
    assert {9, 10, 11, 12} <= expected.keys()
    assert list(continued.values()) == pytest.approx(list(expected.values()), rel=1e-6)
    for name in ("model", "trained"):
        ours, theirs = (
            load_file(Path(run.run.output_dir) / "checkpoints" / "last" / f"{name}.safetensors")
            for run in (config, whole)
        )
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=1e-6, atol=1e-7)
    of_both = [
        read_meta(Path(run.run.output_dir) / "checkpoints" / "last") for run in (config, whole)
    ]
    assert of_both[0].loss_scale == of_both[1].loss_scale


def test_dropout_is_on_in_this_test(body, tiny_data, make_config):
    """Otherwise the one above would not see a lost random state."""
    runs = {}
    for rate in (0.0, 0.3):
        config = make_config(f"rate{rate}", **{**EVERYTHING, "model__drop_out": rate})
        fit(config, LocalWorker("cpu"), tiny_data(num_rows=ROWS), body=body)
        runs[rate] = losses(Path(config.run.output_dir))
    assert runs[0.0][1] != pytest.approx(runs[0.3][1], rel=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optim__backbone_lr_factor": 0.1}, r"optim\.backbone_lr_factor is 0\.5 there and 0\.1"),
        ({"optim__upsampler_lr_factor": 0.0}, r"optim\.upsampler_lr_factor is 1\.0 there and 0\.0"),
        ({"optim__ema_decay": None}, r"optim\.ema_decay is 0\.9 there and None here"),
        ({"model__batch_norm": "frozen"}, r"model\.batch_norm is local there and frozen here"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_other_settings_of_what_was_learned_are_refused(
    body, tiny_data, make_config, tmp_path_factory, change, words
):
    config = make_config("run", **{**EVERYTHING, "optim__epochs": 1})
    done = fit(config, LocalWorker("cpu"), tiny_data(), body=body)
    other = make_config("run", **{**EVERYTHING, **change})
    with pytest.raises(CheckpointError, match=words + r".*run\.resume_checkpoint"):
        fit(other, LocalWorker("cpu", checkpoint=done.checkpoint), tiny_data(), body=body)


def test_the_order_of_an_epoch_stays_until_its_end(body, tiny_data, make_config):
    """Another seed or other rows in the middle of an epoch would repeat some and lose others."""
    settings = {**EVERYTHING, "optim__epochs": 2}
    config = make_config("run", **settings)
    data = tiny_data(num_rows=ROWS, spoil=kill_at(0, 3))
    with pytest.raises(Killed):
        fit(config, LocalWorker("cpu"), data, body=body)
    last = Path(config.run.output_dir) / "checkpoints" / "last"
    assert read_meta(last).row_in_epoch > 0
    other = make_config("run", **{**settings, "optim__seed": 1})
    with pytest.raises(CheckpointError, match=r"optim\.seed is 88 there and 1 here"):
        fit(other, LocalWorker("cpu", checkpoint=last), tiny_data(num_rows=ROWS), body=body)
    words = rf"over {ROWS} rows, and data\.train_yaml now has {ROWS + 2} rows"
    with pytest.raises(CheckpointError, match=words):
        fit(config, LocalWorker("cpu", checkpoint=last), tiny_data(num_rows=ROWS + 2), body=body)
    done = fit(config, LocalWorker("cpu", checkpoint=last), tiny_data(num_rows=ROWS), body=body)
    between = Path(config.run.output_dir) / "checkpoints" / "last"
    longer = make_config("run", **{**settings, "optim__seed": 1, "optim__epochs": 3})
    rows = tiny_data(num_rows=ROWS + 2)
    again = fit(longer, LocalWorker("cpu", checkpoint=between), rows, body=body)
    assert (done.result["epochs"], again.result["epochs"]) == (2, 3), "between epochs both may"


def test_settings_that_only_look_ahead_may_change(body, tiny_data, make_config):
    config = make_config("run", **{**EVERYTHING, "optim__epochs": 1})
    done = fit(config, LocalWorker("cpu"), tiny_data(), body=body)
    longer = {"optim__epochs": 3, "optim__lr": 1e-3, "optim__clip_grad_norm": None}
    longer |= {"optim__accumulate_steps": 1, "optim__precision": "bf16"}
    other = make_config("run", **{**EVERYTHING, **longer})
    again = fit(other, LocalWorker("cpu", checkpoint=done.checkpoint), tiny_data(), body=body)
    assert again.result["epochs"] == 3
