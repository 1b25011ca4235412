"""A sweep in a process of its own, as a user starts one."""

import csv
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from metro_ray.config.load import to_dict
from metro_ray.sweeps.ledger import Ledger

JOBS = Path(__file__).parents[2] / "jobs"


class Sweep:
    """A sweep over learning rates, which `start` runs and which goes on where it is told to.

    Args:
        folder: For its files; the sweep is in `sweep` below it.
        config: Of every trial.
        rates: YAML of the values of `optim.lr`, as in a search space.
        settings: Of the sweep, as on the command line.
    """

    def __init__(self, folder, config, rates, *settings):
        self.out, self.log = folder / "sweep", folder / "log.txt"
        (folder / "base.yaml").write_text(yaml.safe_dump(to_dict(config)))
        (folder / "space.yaml").write_text(f"optim.lr: {rates}\n")
        job = JOBS / f"tune_{config.kind}.py"
        self._argv = [sys.executable, str(job), "--preset", str(folder / "base.yaml")]
        self._argv += ["--tune.space", str(folder / "space.yaml"), *settings]
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
