"""Checkpoints written in the background and copied to remote storage."""

import threading

import fsspec
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from metro_ray.errors import CheckpointError, StorageError
from metro_ray.training import checkpoint_writer
from metro_ray.training.checkpoint_meta import CheckpointMeta, read_meta
from metro_ray.training.checkpoint_writer import CheckpointWriter
from metro_ray.training.context import LocalWorker
from metro_ray.training.loop import fit
from metro_ray.training.upload import RunUpload

STORE = "memory://bucket/run"


@pytest.fixture
def store():
    """An empty in-memory store."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def meta(step, epoch=1):
    return CheckpointMeta(
        config={}, mesh="smpl", epoch=epoch, step=step, row_in_epoch=0, world_size=1
    )


@pytest.fixture
def network():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_holds_the_weights_of_its_step_while_training_goes_on(
    network, tmp_path, monkeypatch
):
    model, optimizer = network
    go_on, write = threading.Event(), checkpoint_writer.write_checkpoint

    def wait_and_write(*args, **kwargs):
        assert go_on.wait(timeout=30)
        return write(*args, **kwargs)

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", wait_and_write)
    writer = CheckpointWriter(tmp_path, keep=1, in_background=True)
    before = model.weight.detach().clone()
    moment = optimizer.state[model.weight]["exp_avg"].clone()
    folder = writer.save(model, optimizer, meta(10), metric=("val/pa_mpjpe_mm", 50.0))
    assert not folder.exists()
    with torch.no_grad():
        model.weight.zero_()
        optimizer.state[model.weight]["exp_avg"].zero_()
    go_on.set()
    writer.wait()
    assert names(tmp_path) == ["best", "checkpoint-1-10", "last"]
    torch.testing.assert_close(load_file(folder / "model.safetensors")["weight"], before)
    state = torch.load(folder / "optimizer.pt", weights_only=True)
    torch.testing.assert_close(state["state"][0]["exp_avg"], moment)
    assert writer.best[0].step == 10


def test_a_failed_write_is_told_and_leaves_the_last_one(network, tmp_path, monkeypatch):
    writer = CheckpointWriter(tmp_path, keep=1, in_background=True)
    writer.save(*network, meta(10))
    writer.wait()

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", full)
    writer.save(*network, meta(20))
    with pytest.raises(OSError, match="No space left"):
        writer.wait()
    assert read_meta(tmp_path / "last").step == 10


def test_checkpoints_are_copied_pointed_to_and_pruned(network, tmp_path, store):
    writer = CheckpointWriter(tmp_path, keep=1, in_background=True, upload=RunUpload(STORE))
    for step, error in ((10, 60.0), (20, 50.0), (30, 55.0)):
        writer.save(*network, meta(step), metric=("val/pa_mpjpe_mm", error))
    writer.wait()
    remote = sorted(name.split("/")[4] for name in store.find("/bucket/run") if "model" in name)
    assert remote == ["checkpoint-1-20", "checkpoint-1-30"]

    elsewhere = tmp_path / "other"
    last = RunUpload(STORE).fetch_last(elsewhere)
    assert last == elsewhere / "checkpoint-1-30"
    assert names(elsewhere) == ["best", "checkpoint-1-20", "checkpoint-1-30", "last"]
    assert read_meta(elsewhere / "best").step == 20
    for file in (tmp_path / "checkpoint-1-30").iterdir():
        assert (last / file.name).read_bytes() == file.read_bytes()

    for link in ("last", "best"):  # as a fetch leaves it that ends before its last moment
        (elsewhere / link).unlink()
    (elsewhere / "checkpoint-1-20" / "meta.json").unlink()
    assert RunUpload(STORE).fetch_last(elsewhere) == last
    assert read_meta(elsewhere / "best").step == 20


def test_nothing_is_fetched_where_there_is_nothing(tmp_path, store):
    assert not RunUpload(STORE).holds_run()
    assert RunUpload(STORE).fetch_last(tmp_path) is None


def test_pointers_to_nothing_are_an_error(network, tmp_path, store):
    writer = CheckpointWriter(tmp_path, keep=1, in_background=False, upload=RunUpload(STORE))
    writer.save(*network, meta(10))
    for name in store.find("/bucket/run"):
        if "checkpoint-1-10" in name:
            store.rm(name)
    with pytest.raises(CheckpointError, match=r"pointers\.json names checkpoint-1-10"):
        RunUpload(STORE).fetch_last(tmp_path / "other")


def test_a_store_that_is_down_does_not_stop_training(network, tmp_path, monkeypatch, caplog):
    def down(self, root):
        raise StorageError("writing failed 6 times")

    monkeypatch.setattr(RunUpload, "checkpoints", down)
    writer = CheckpointWriter(tmp_path, keep=1, in_background=True, upload=RunUpload(STORE))
    writer.save(*network, meta(10))
    writer.wait()
    assert "checkpoint checkpoint-1-10 is on this machine only" in caplog.text
    assert read_meta(tmp_path / "last").step == 10


def test_a_finished_run_is_in_the_store(body, tiny_data, make_config, store):
    config = make_config(run__upload_to=STORE)
    fit(config, LocalWorker("cpu"), tiny_data(), body=body)
    files = {name.removeprefix("/bucket/run/") for name in store.find("/bucket/run")}
    assert {"result.json", "config.yaml", "metrics.csv", "checkpoints/pointers.json"} <= files
    assert any(name.endswith("model.safetensors") for name in files)
