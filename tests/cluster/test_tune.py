"""A sweep as a user runs it: killed and gone on with, trials that fail, what is left behind."""

import json
import signal

import pytest

from metro_ray.config.load import load_config
from metro_ray.sweeps.best import best_checkpoint
from metro_ray.sweeps.ledger import Ledger
from metro_ray.training.checkpoint_meta import read_meta

from .live_sweep import Sweep, validations

pytestmark = [pytest.mark.ray, pytest.mark.slow]
RATES = "{grid: [1.0e-4, 1.0e+30, 3.0e-4, 1.0e-3]}"
"""The second one diverges."""


@pytest.mark.timeout(2400)
def test_a_killed_sweep_goes_on_and_no_trial_runs_twice(make_config, tmp_path):
    config = make_config(**{"optim.epochs": 2, "optim.max_nonfinite_steps": 0})
    sweep = Sweep(tmp_path, config, RATES, "--tune.scheduler", "none")
    process = sweep.start()
    sweep.wait_for_end_of(1, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = Ledger.open(sweep.out).trials
    ended = {number: trial for number, trial in before.items() if trial.has_ended}
    stamps = {n: (sweep.out / f"trials/{n:03d}/metrics.csv").stat().st_mtime_ns for n in ended}
    assert 1 <= len(ended) < 4

    refused = sweep.start()
    assert refused.wait(300) == 2
    assert "--run.resume true goes on with it" in sweep.log.read_text()

    going_on = sweep.start("--run.resume", "true")
    assert going_on.wait(1200) == 0, sweep.log.read_text()
    ledger = Ledger.open(sweep.out)
    assert sorted(ledger.trials) == [0, 1, 2, 3]
    assert {number: ledger.trials[number] for number in ended} == ended
    for number, stamp in stamps.items():
        path = sweep.out / f"trials/{number:03d}/metrics.csv"
        assert path.stat().st_mtime_ns == stamp, "a trial that had ended ran again"
    for number in (0, 2, 3):
        assert ledger.trials[number].state == "done"
        assert validations(ledger.trial_folder(number)) == {"1": 1, "2": 1}
    check_the_failed_one(ledger)
    check_what_is_left(ledger)


def check_the_failed_one(ledger):
    failed = ledger.trials[1]
    assert failed.state == "failed"
    assert failed.starts == 2, "it was tried again, once"
    assert "is not finite" in failed.error
    assert "TrainingError" in (ledger.trial_folder(1) / "error.txt").read_text()


def check_what_is_left(ledger):
    best = best_checkpoint(ledger.folder)
    errors = {n: ledger.score(n).pa_mpjpe_mm for n in (0, 2, 3)}
    assert best.trial == min(errors, key=errors.get)
    meta = read_meta(best.checkpoint)
    assert meta.metrics["val/pa_mpjpe_mm"] == best.value
    preset = load_config("body", best.config)
    assert preset.optim.lr == best.values["optim.lr"] == meta.config["optim"]["lr"]
    assert json.loads((ledger.folder / "best.json").read_text())["trial"] == best.trial
    for name in ("trials.csv", "trials.parquet", "report.html"):
        assert (ledger.folder / name).is_file()
    assert not (ledger.folder / ".ray").exists()
    assert not list((ledger.folder / "trials").glob("*/.ray"))
