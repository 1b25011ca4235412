import json
from dataclasses import replace

import pytest
import torch

from metro_ray.errors import CheckpointError
from metro_ray.training import checkpoint as checkpoint_module
from metro_ray.training.builders import build_model
from metro_ray.training.checkpoint import load_checkpoint, save_checkpoint
from metro_ray.training.checkpoint_meta import (
    CheckpointMeta,
    read_meta,
    require_same_architecture,
)
from metro_ray.training.step import make_optimizer


@pytest.fixture(scope="module")
def parts(body):
    """A model with an optimizer that has made a step."""
    from metro_ray.config.load import load_config

    config = load_config(
        "body",
        overrides={
            "model.arch": "tiny",
            "model.input_feat_dim": (2051,),
            "model.hidden_feat_dim": (8,),
            "model.num_hidden_layers": 1,
            "model.num_attention_heads": 2,
        },
    )
    model = build_model(config, body)
    optimizer = make_optimizer(model, 1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step()
    return model, optimizer


def meta(**changes):
    values = {"config": {"model": {"arch": "hrnet-w64"}}, "mesh": "smpl", "epoch": 1, "step": 10}
    return CheckpointMeta(**{**values, **changes})


def test_round_trip_restores_weights_optimizer_and_meta(parts, body, tmp_path):
    model, optimizer = parts
    model.to(memory_format=torch.channels_last)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folder, written = save_checkpoint(
        tmp_path, model, optimizer, meta(row_in_epoch=3, metrics={"val/mpve_mm": float("nan")})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    other = make_optimizer(model, 1e-3)
    read = load_checkpoint(folder, model, other)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert read == replace(written, metrics={"val/mpve_mm": None})
    assert read.row_in_epoch == 3
    assert set(read.versions) >= {"metro_ray", "torch", "python"}
    theirs, ours = optimizer.state_dict()["state"], other.state_dict()["state"]
    assert torch.equal(theirs[0]["exp_avg"], ours[0]["exp_avg"])
    assert len(theirs) == len(ours) > 20


def test_a_position_in_batches_of_an_older_format_becomes_one_in_rows(parts, tmp_path):
    model, optimizer = parts
    config = {"optim": {"per_gpu_batch_size": 30}}
    folder, _ = save_checkpoint(tmp_path, model, optimizer, meta(config=config, world_size=8))
    written = json.loads((folder / "meta.json").read_text())
    del written["row_in_epoch"]
    (folder / "meta.json").write_text(json.dumps({**written, "format": 2, "batch_in_epoch": 3}))
    assert read_meta(folder).row_in_epoch == 3 * 8 * 30


def test_failure_while_writing_leaves_the_old_checkpoint(parts, tmp_path, monkeypatch):
    model, optimizer = parts
    save_checkpoint(tmp_path, model, optimizer, meta())

    def dies(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint_module.torch, "save", dies)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, model, optimizer, meta(epoch=2, step=20))
    monkeypatch.undo()
    assert read_meta(tmp_path / "last").step == 10
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1-10"]
    save_checkpoint(tmp_path, model, optimizer, meta(epoch=2, step=20))
    assert read_meta(tmp_path / "last").step == 20
    assert not list(tmp_path.glob(".partial-*")), "left-overs are cleaned up"


def test_best_follows_the_smallest_metric_and_old_ones_go(parts, tmp_path):
    model, optimizer = parts
    best = ()
    for step, value in enumerate([60.0, 50.0, 55.0, 58.0], start=1):
        _, written = save_checkpoint(
            tmp_path,
            model,
            optimizer,
            meta(epoch=step, step=step, best=best),
            metric=("val/pa_mpjpe_mm", value),
            keep=2,
        )
        best = written.best
    assert [entry.value for entry in best] == [50.0, 55.0]
    assert read_meta(tmp_path / "best").step == 2
    assert read_meta(tmp_path / "last").step == 4
    kept = {path.name for path in tmp_path.iterdir() if not path.is_symlink()}
    assert kept == {"checkpoint-2-2", "checkpoint-3-3", "checkpoint-4-4"}


def test_checkpoints_measured_by_another_metric_are_not_compared(parts, tmp_path):
    """PA-MPJPE and MPVE differ in size: a validation set without joints begins a ranking anew."""
    best = ()
    for step, metric in enumerate([("val/pa_mpjpe_mm", 50.0), ("val/mpve_mm", 80.0)], start=1):
        numbers = meta(epoch=step, step=step, best=best)
        _, written = save_checkpoint(tmp_path, *parts, numbers, metric=metric, keep=2)
        best = written.best
    assert [(entry.metric, entry.value) for entry in best] == [("val/mpve_mm", 80.0)]
    assert read_meta(tmp_path / "best").step == 2


def test_a_folder_of_the_same_name_is_never_overwritten_in_place(parts, tmp_path):
    model, optimizer = parts
    first, _ = save_checkpoint(tmp_path, model, optimizer, meta())
    second, _ = save_checkpoint(tmp_path, model, optimizer, meta())
    assert first != second
    assert (tmp_path / "last").resolve() == second
    assert not first.exists()


def test_incomplete_folder_is_named(parts, tmp_path):
    model, optimizer = parts
    folder, _ = save_checkpoint(tmp_path, model, optimizer, meta())
    (folder / "optimizer.pt").unlink()
    with pytest.raises(CheckpointError, match=r"optimizer\.pt missing"):
        load_checkpoint(folder, model)


def test_damaged_files_are_refused(parts, tmp_path):
    model, optimizer = parts
    folder, _ = save_checkpoint(tmp_path, model, optimizer, meta())
    (folder / "optimizer.pt").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match=r"optimizer\.pt"):
        load_checkpoint(folder, model, optimizer)
    (folder / "meta.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        read_meta(folder)
    (folder / "meta.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"meta\.json"):
        read_meta(folder)


def test_weights_of_another_architecture_name_the_keys(parts, body, make_config, tmp_path):
    model, optimizer = parts
    folder, _ = save_checkpoint(tmp_path, model, optimizer, meta())
    other = build_model(make_config(), body)
    before = other.state_dict()["camera.output.weight"].clone()
    with pytest.raises(CheckpointError, match=r"cascade\.encoders"):
        load_checkpoint(folder, other)
    assert torch.equal(other.state_dict()["camera.output.weight"], before)


def test_settings_of_another_architecture_are_compared(tmp_path):
    settings = {"arch": "hrnet-w64", "input_feat_dim": (2051, 512), "num_hidden_layers": 4}
    theirs = meta(config={"model": {**settings, "arch": "resnet50", "input_feat_dim": [2051, 512]}})
    with pytest.raises(CheckpointError, match=r"model\.arch is resnet50 there and hrnet-w64 here"):
        require_same_architecture(theirs, settings, "smpl", tmp_path)
    same = meta(config={"model": {**settings, "input_feat_dim": [2051, 512]}})
    require_same_architecture(same, settings, "smpl", tmp_path)
    with pytest.raises(CheckpointError, match="smpl there and anny_body here"):
        require_same_architecture(same, settings, "anny_body", tmp_path)
