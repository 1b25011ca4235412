"""Every name of a checkpoint leads to its folder, and its version tells its weights."""

import json
import shutil

import pytest

from metro_ray.data.storage import as_path
from metro_ray.errors import CheckpointError
from metro_ray.serve.sources import fetch, find_checkpoint, version_of


@pytest.mark.parametrize("below", [".", "checkpoints", "checkpoints/best", "checkpoints/last"])
def test_a_run_and_its_folders_lead_to_the_checkpoint(body_run, body_checkpoint, below):
    assert find_checkpoint(str(body_run / below)).folder == body_checkpoint


@pytest.fixture
def sweep(body_checkpoint, tmp_path):
    """A sweep whose second trial is the best."""
    folder = tmp_path / "sweep"
    shutil.copytree(body_checkpoint, folder / "trials/001/checkpoints/best")
    best = {
        "checkpoint": "trials/001/checkpoints/best",
        "metric": "val/pa_mpjpe_mm",
        "value": 90.0,
        "trial": 1,
        "epoch": 2,
        "values": {},
        "config": "best.yaml",
    }
    (folder / "sweep.json").write_text("{}")
    (folder / "best.json").write_text(json.dumps(best))
    return folder


def test_a_sweep_leads_to_the_best_of_its_trials(sweep):
    assert find_checkpoint(str(sweep)).folder == sweep / "trials/001/checkpoints/best"


def test_a_sweep_without_a_checkpoint_says_so(sweep):
    (sweep / "best.json").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        find_checkpoint(str(sweep))


def test_the_version_is_that_of_the_weights(body_checkpoint, other_body_checkpoint, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(body_checkpoint, copied)
    assert version_of(copied) == version_of(body_checkpoint)
    assert version_of(body_checkpoint).endswith("-10")
    assert version_of(other_body_checkpoint) != version_of(body_checkpoint)


@pytest.fixture
def bucket(body_checkpoint, monkeypatch, tmp_path):
    """A run in remote storage, as `run.upload_to` leaves it."""
    monkeypatch.setenv("METRO_RAY_CACHE", str(tmp_path / "cache"))
    root = as_path("memory://bucket/run/checkpoints")
    for file in body_checkpoint.iterdir():
        (root / body_checkpoint.name / file.name).write_bytes(file.read_bytes())
    pointers = {"last": body_checkpoint.name, "best": body_checkpoint.name}
    (root / "pointers.json").write_bytes(json.dumps(pointers).encode())
    yield "memory://bucket/run"
    root.fs.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    "below", ["", "/checkpoints", "/checkpoints/pointers.json", "/checkpoints/checkpoint-1-10"]
)
def test_remote_runs_are_fetched_once(bucket, body_checkpoint, below, tmp_path):
    found = find_checkpoint(bucket + below)
    local = fetch(found)
    assert version_of(local) == version_of(body_checkpoint)
    assert fetch(found) == local
    assert len(list((tmp_path / "cache" / "served").iterdir())) == 1


def test_new_weights_under_the_same_name_are_noticed(bucket, other_body_checkpoint):
    before = find_checkpoint(bucket)
    weights = before.folder / "model.safetensors"
    weights.write_bytes((other_body_checkpoint / "model.safetensors").read_bytes() + b" ")
    assert find_checkpoint(bucket).stamp != before.stamp


@pytest.mark.parametrize("name", ["nowhere", "memory://none/run", "memory://none/pointers.json"])
def test_names_that_lead_nowhere(name):
    with pytest.raises(CheckpointError, match="checkpoint"):
        find_checkpoint(name)


def test_pointers_that_name_nothing(tmp_path):
    (tmp_path / "pointers.json").write_text("[]")
    with pytest.raises(CheckpointError, match="names no checkpoint"):
        find_checkpoint(str(tmp_path))
