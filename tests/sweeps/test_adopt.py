"""Population-based training: values near good ones, and another's checkpoint as one's own."""

import json
import random
import shutil

import pytest

from metro_ray.config.space import parse_space
from metro_ray.errors import CheckpointError
from metro_ray.sweeps.adopt import adopt_checkpoint, explore
from metro_ray.training.checkpoint_meta import read_meta
from metro_ray.training.files import replace_link


def test_changed_values_stay_in_the_space():
    tree = {
        "optim.lr": {"loguniform": [1e-4, 1e-3]},
        "model.mask_fraction": {"quniform": [0.0, 0.5, 0.1]},
        "optim.warmup_steps": {"randint": [0, 9]},
        "loss.vertices": {"choice": [10.0, 100.0, 1000.0]},
    }
    space, _ = parse_space(tree, "here")
    values = space.draw(random.Random(0))
    seen = set()
    for seed in range(200):
        near = explore(space, values, random.Random(seed))
        assert all(d.contains(near[d.key]) for d in space.dimensions), near
        seen.add(near["loss.vertices"])
    assert len(seen) == 3


def test_a_trial_goes_on_from_another_s_checkpoint(ledger):
    donor, own = ledger.trial_folder(2), ledger.trial_folder(4)
    source = donor / "checkpoints" / "best" / "meta.json"
    meta = json.loads(source.read_text())
    entry = {"metric": "m", "value": 1.0, "epoch": 3, "step": 30, "folder": "checkpoint-3-30"}
    source.write_text(json.dumps(meta | {"best": [entry]}))
    adopt_checkpoint(donor, own, 1)
    adopted = read_meta(own / "checkpoints" / "last")
    assert (adopted.epoch, adopted.step) == (3, 30)
    assert adopted.best == (), "the donor's best checkpoints are not there"
    assert not list((own / "checkpoints").glob(".partial*")), "nothing half-made is left"


def test_a_trial_that_starts_again_does_not_take_over_twice(ledger):
    donor, own = ledger.trial_folder(2), ledger.trial_folder(4)
    adopt_checkpoint(donor, own, 1)
    first = (own / "checkpoints" / "last").resolve()
    adopt_checkpoint(donor, own, 1)
    assert (own / "checkpoints" / "last").resolve() == first, "a retry, or a sweep that goes on"
    adopt_checkpoint(donor, own, 2)
    assert (own / "checkpoints" / "last").resolve() != first, "the next takeover is another"
    assert first.name.startswith("checkpoint-"), "so that the run prunes it like its own"


def test_a_donor_that_prunes_while_it_is_copied_is_asked_again(ledger, monkeypatch):
    donor, own = ledger.trial_folder(2), ledger.trial_folder(4)
    checkpoints = donor / "checkpoints"
    old = (checkpoints / "last").resolve()
    newer = checkpoints / "checkpoint-9-90"
    shutil.copytree(old, newer)
    copytree = shutil.copytree

    def pruned_meanwhile(source, target):
        if source == old:
            replace_link(checkpoints / "last", newer.name)
            raise FileNotFoundError(source / "model.safetensors")
        return copytree(source, target)

    monkeypatch.setattr("metro_ray.sweeps.adopt.shutil.copytree", pruned_meanwhile)
    adopt_checkpoint(donor, own, 1)
    assert (own / "checkpoints" / "last" / "meta.json").is_file()
    monkeypatch.setattr(
        "metro_ray.sweeps.adopt.shutil.copytree",
        lambda *_: (_ for _ in ()).throw(OSError("full")),
    )
    with pytest.raises(OSError, match="full"):
        adopt_checkpoint(donor, own, 2)


def test_a_donor_without_a_checkpoint_is_refused(ledger):
    with pytest.raises(CheckpointError, match="not a complete checkpoint"):
        adopt_checkpoint(ledger.trial_folder(4), ledger.trial_folder(2), 1)
