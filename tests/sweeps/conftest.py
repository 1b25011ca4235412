"""A sweep on disk as trials leave it, without having trained."""

import pytest
from past_sweep import write_checkpoint, write_metrics

from metro_ray.config.sweep_cli import parse_tune
from metro_ray.sweeps.ledger import Ledger, SweepRecord, Trial

# number -> learning rate, layers, state, PA-MPJPE by epoch
TRIALS = {
    0: (1e-4, 2, "done", [150.0, 140.0, 130.0, 125.0]),
    1: (1e-3, 1, "stopped", [170.0]),
    2: (3e-4, 4, "done", [140.0, 120.0, 110.0, 112.0]),
    3: (2e-5, 1, "stopped", [180.0, 178.0]),
    4: (3e-3, 4, "failed", []),
    5: (2e-4, 2, "stopped", [145.0, 144.0]),
    6: (5e-4, 1, "running", [139.0]),
}


@pytest.fixture
def record(tmp_path):
    argv = ["--preset", "demo", "--tune.trials", "8", "--optim.epochs", "4"]
    request = parse_tune("body", [*argv, "--run.output_dir", str(tmp_path / "sweep")])
    return SweepRecord(request.base, request.sweep, request.space)


@pytest.fixture
def ledger(tmp_path, record):
    """Seven of eight trials: done, stopped, failed, running."""
    ledger = Ledger.begin(tmp_path / "sweep", record)
    for number, (lr, layers, state, errors) in TRIALS.items():
        values = {"optim.lr": lr, "model.num_hidden_layers": layers}
        error = "rank 0 failed" if state == "failed" else None
        ledger.put(
            Trial(
                number=number,
                values=values,
                state=state,
                epochs=len(errors),
                starts=1,
                error=error,
                parameters=27_000_000 + 100_000 * layers,
            )
        )
        folder = ledger.trial_folder(number)
        write_metrics(folder, errors, speed=10.0 / layers)
        if state in ("done", "stopped"):
            write_checkpoint(folder, epoch=errors.index(min(errors)) + 1, error=min(errors))
    return ledger
