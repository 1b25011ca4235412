import os
import pickle
import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from metro_ray.errors import CheckpointError
from metro_ray.models.weights_file import find_weights, read_tensors


class Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class SystemAttack(Attack):
    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def write_attack(path, attack, form):
    content = {"conv1.weight": torch.zeros(1), "x": attack}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")


@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
@pytest.mark.parametrize("attack", [Attack, SystemAttack])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, form, attack):
    trap, path = tmp_path / "executed", tmp_path / "metro_hand_state_dict.bin"
    write_attack(path, attack(trap), form)
    with pytest.raises(CheckpointError):
        read_tensors(path)
    assert not trap.exists()


def test_the_trap_of_that_test_works(tmp_path):
    trap, path = tmp_path / "executed", tmp_path / "attack.bin"
    write_attack(path, Attack(trap), "pickle")
    pickle.loads(path.read_bytes())["x"].close()
    assert trap.exists()


def test_the_refused_global_is_named(tmp_path):
    path = tmp_path / "state_dict.bin"
    write_attack(path, SystemAttack(tmp_path / "executed"), "zip")
    with pytest.raises(CheckpointError, match=r"posix\.system.*Nothing in it was executed"):
        read_tensors(path)


def test_a_whole_pickled_module_is_refused_with_advice(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match=r"whole pickled module.*use state_dict\.bin"):
        read_tensors(tmp_path / "model.bin")


@pytest.mark.parametrize("legacy", [False, True])
def test_wrappers_and_prefix_are_taken_off(tmp_path, legacy):
    content = {"epoch": 3, "state_dict": {"module.a.weight": torch.arange(3.0)}}
    torch.save(content, tmp_path / "w.pth.tar", _use_new_zipfile_serialization=not legacy)
    tensors = read_tensors(tmp_path / "w.pth.tar")
    assert list(tensors) == ["a.weight"]
    assert tensors["a.weight"].tolist() == [0.0, 1.0, 2.0]


def test_checkpoint_folder(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    assert read_tensors(tmp_path)["a"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404 not found</html>", b"\x80\x02garbage" * 9])
def test_junk(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\."):
        read_tensors(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_file(tmp_path, form, share):
    path = tmp_path / "state_dict.bin"
    content = {f"layer{i}.weight": torch.randn(20, 20) for i in range(8)}
    torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "holds a list"), ({}, "holds a dict"), ({"lr": 0.1}, "lr is not a tensor")],
)
def test_not_a_state_dict(tmp_path, content, message):
    torch.save(content, tmp_path / "w.bin")
    with pytest.raises(CheckpointError, match=message):
        read_tensors(tmp_path / "w.bin")


@pytest.mark.parametrize("name", ["nowhere.bin", "folder/nowhere.pth"])
def test_missing_file(tmp_path, name):
    with pytest.raises(CheckpointError, match="no weights at"):
        read_tensors(tmp_path / name)
    with pytest.raises(CheckpointError, match="no weights at"):
        find_weights(name)


def test_a_path_that_exists_wins_over_a_hub_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "hrnet_w18").write_bytes(b"")
    assert find_weights("timm/hrnet_w18").exists()


def test_hub_name(tmp_path, monkeypatch):
    asked = []
    hub = types.SimpleNamespace(hf_hub_download=lambda *args: asked.append(args) or str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert find_weights("hf_hub:timm/hrnet_w18.ms_aug_in1k") == tmp_path
    assert find_weights("timm/hrnet_w18.ms_aug_in1k") == tmp_path
    assert asked == [("timm/hrnet_w18.ms_aug_in1k", "model.safetensors")] * 2


def test_hub_that_cannot_be_reached(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="Without a connection, download it elsewhere"):
        find_weights("timm/a_model_that_nobody_has")


def test_hub_package_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"metro-ray\[hub\]"):
        find_weights("timm/hrnet_w18.ms_aug_in1k")
