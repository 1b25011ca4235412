"""Sweeps as a user runs them, in their less usual ways: population, median, Ctrl-C, hands."""

import csv
import signal
from collections import Counter

import pytest

from metro_ray.config.load import load_config
from metro_ray.sweeps.best import best_checkpoint
from metro_ray.sweeps.ledger import Ledger
from metro_ray.training.checkpoint_meta import read_meta

from .live_sweep import Sweep, validations

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.timeout(1200)
def test_the_worse_of_two_trials_goes_on_from_the_better_with_changed_values(make_config, tmp_path):
    config = make_config(**{"optim.epochs": 4, "optim.lr": 1e-3})
    rates = "{loguniform: [1.0e-6, 1.0e-3]}"
    sweep = Sweep(tmp_path, config, rates, "--tune.scheduler", "pbt", "--tune.trials", "2")
    assert sweep.start().wait(1000) == 0, sweep.log.read_text()
    ledger = Ledger.open(sweep.out)
    assert [trial.state for trial in ledger.trials.values()] == ["done", "done"]
    taken = {number: trial for number, trial in ledger.trials.items() if trial.changes}
    assert taken, sweep.log.read_text()
    for number, trial in taken.items():
        folder = ledger.trial_folder(number)
        assert trial.changes[-1]["from"] == 1 - number
        assert trial.starts == 1 + len(trial.changes)
        assert f"trial {number} goes on from trial {1 - number}" in sweep.log.read_text()
        meta = read_meta(folder / "checkpoints" / "last")
        assert meta.config["optim"]["lr"] == trial.changes[-1]["values"]["optim.lr"]
        assert meta.epoch == 4
        assert "Continuing from" in (folder / "log.txt").read_text()
    assert all(validations(ledger.trial_folder(n)).keys() == set("1234") for n in (0, 1))
    best = best_checkpoint(sweep.out)
    assert read_meta(best.checkpoint).metrics["val/pa_mpjpe_mm"] == best.value


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_sweep_with_the_median_rule_goes_on(make_config, tmp_path, sent, code):
    config = make_config(**{"optim.epochs": 2})
    sweep = Sweep(
        tmp_path, config, "{grid: [1.0e-4, 3.0e-4, 1.0e-3]}", "--tune.scheduler", "median"
    )
    process = sweep.start()
    sweep.wait_for_end_of(1, process)
    process.send_signal(sent)
    assert process.wait(200) == code, sweep.log.read_text()
    assert "of 3 trials; the same command with --run.resume true goes on" in sweep.log.read_text()
    before = Ledger.open(sweep.out).trials
    assert any(not trial.has_ended for trial in before.values())
    assert (sweep.out / "report.html").is_file()

    assert sweep.start("--run.resume", "true").wait(600) == 0, sweep.log.read_text()
    ledger = Ledger.open(sweep.out)
    assert {trial.state for trial in ledger.trials.values()} <= {"done", "stopped"}
    assert len(ledger.trials) == 3
    for number, trial in before.items():
        if trial.has_ended:
            assert ledger.trials[number] == trial
    for number in ledger.trials:
        assert set(ended_epochs(ledger.trial_folder(number)).values()) == {1}


def ended_epochs(folder):
    """How often each epoch of a trial's run was trained to its end."""
    with (folder / "metrics.csv").open(newline="") as file:
        return Counter(row["epoch"] for row in csv.DictReader(file) if row["kind"] == "epoch")


@pytest.mark.timeout(900)
def test_hands_are_swept_over_learning_rate_and_layers(tmp_path):
    data = tmp_path / "data"
    tiny = {
        "model.arch": "hrnet-w18-small",
        "model.input_feat_dim": [2051, 16],
        "model.hidden_feat_dim": [16, 8],
        "model.num_attention_heads": 1,
        "data.train_yaml": str(data / "train.yaml"),
        "data.val_yaml": str(data / "val.yaml"),
        "data.synth_train": 16,
        "data.synth_val": 8,
        "optim.epochs": 1,
        "optim.per_gpu_batch_size": 4,
        "eval.gallery_images": 0,
        "run.device": "cpu",
        "scaling.train_workers": 1,
    }
    config = load_config("hand", "demo_hand", overrides=tiny)
    space = "{loguniform: [1.0e-5, 1.0e-3]}\nmodel.num_hidden_layers: {choice: [1, 2]}"
    sweep = Sweep(tmp_path, config, space, "--tune.trials", "2", "--tune.search", "random")
    assert sweep.start().wait(600) == 0, sweep.log.read_text()
    with (sweep.out / "trials.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    assert [row["state"] for row in trials] == ["done", "done"]
    assert all(int(row["parameters"]) > 0 for row in trials)
    best = best_checkpoint(sweep.out)
    meta = read_meta(best.checkpoint)
    assert meta.config["model"]["mesh"] == "anny_hand"
    assert meta.config["model"]["num_hidden_layers"] == best.values["model.num_hidden_layers"]
