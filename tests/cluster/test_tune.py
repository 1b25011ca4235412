"""A sweep as a user runs it: killed and gone on with, trials that fail, what is left behind."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from metro_ray.config.load import load_config, to_dict
from metro_ray.sweeps.best import best_checkpoint
from metro_ray.sweeps.ledger import Ledger
from metro_ray.training.checkpoint_meta import read_meta

pytestmark = [pytest.mark.ray, pytest.mark.slow]
JOB = Path(__file__).parents[2] / "jobs" / "tune_body.py"


class Sweep:
    """A sweep of four learning rates in a process of its own; the second one diverges."""

    def __init__(self, folder, config):
        self.out, self.log = folder / "sweep", folder / "log.txt"
        (folder / "base.yaml").write_text(yaml.safe_dump(to_dict(config)))
        (folder / "space.yaml").write_text("optim.lr: {grid: [1.0e-4, 1.0e+30, 3.0e-4, 1.0e-3]}\n")
        self._argv = [sys.executable, str(JOB), "--preset", str(folder / "base.yaml")]
        self._argv += ["--tune.space", str(folder / "space.yaml"), "--tune.scheduler", "none"]
        self._argv += ["--run.output_dir", str(self.out)]

    def start(self, *more):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        with self.log.open("a") as log:
            return subprocess.Popen(
                [*self._argv, *more],
                stdout=log,
                stderr=log,
                env={**environment, "OMP_NUM_THREADS": "1"},
            )

    def wait_for_end_of(self, count, process):
        """Until so many trials have ended and another one is training."""
        for _ in range(900):
            time.sleep(1)
            assert process.poll() is None, self.log.read_text()
            if not (self.out / "sweep.json").is_file():
                continue
            trials = Ledger.open(self.out).trials.values()
            ended = sum(trial.has_ended for trial in trials)
            if ended >= count and any(trial.state == "running" for trial in trials):
                return
        pytest.fail(self.log.read_text())


def validations(folder):
    """How often each epoch of a trial's run was validated."""
    with (folder / "metrics.csv").open(newline="") as file:
        return Counter(row["epoch"] for row in csv.DictReader(file) if row["kind"] == "val")


@pytest.mark.timeout(2400)
def test_a_killed_sweep_goes_on_and_no_trial_runs_twice(make_config, tmp_path):
    config = make_config(**{"optim.epochs": 2, "optim.max_nonfinite_steps": 0})
    sweep = Sweep(tmp_path, config)
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
