"""The outcome of a sweep as files that other programs read: `best.json` and `best.yaml`.

`best.json` names the best checkpoint relative to the sweep's folder, so the folder may be moved:

    {"checkpoint": "trials/003/checkpoints/best", "metric": "val/pa_mpjpe_mm", "value": 131.2,
     "trial": 3, "epoch": 4, "values": {"optim.lr": 0.0006}, "config": "best.yaml"}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from metro_ray.config.load import dump_yaml
from metro_ray.config.sweep import METRIC, best_config
from metro_ray.errors import CheckpointError, MetroRayError
from metro_ray.sweeps.ledger import SWEEP_FILE, Ledger, SweepRecord, Trial
from metro_ray.training.checkpoint_meta import PREDICTOR_FILES, CheckpointMeta, read_meta
from metro_ray.training.files import write_bytes, write_json

BEST_FILE, BEST_PRESET = "best.json", "best.yaml"
_CHECKPOINT = Path("checkpoints") / "best"


class BestOfSweep(NamedTuple):
    """The best checkpoint of a sweep."""

    checkpoint: Path
    """Its folder."""
    metric: str
    value: float
    """Smaller is better."""
    trial: int
    epoch: int
    values: dict[str, Any]
    """What the trial was given, by dotted key."""
    config: Path
    """Settings of a full run with them, for `--preset`."""


def best_checkpoint(sweep_dir: Path | str) -> BestOfSweep:
    """The best checkpoint of a sweep, running or finished.

    Args:
        sweep_dir: `run.output_dir` of the sweep.

    Raises:
        CheckpointError: It is no sweep, no trial has a checkpoint yet, or it was taken away.
    """
    folder = Path(sweep_dir)
    path = folder / BEST_FILE
    if not (folder / SWEEP_FILE).is_file():
        raise CheckpointError(
            f"{folder} holds no sweep ({SWEEP_FILE} is missing): give the run.output_dir of one"
        )
    if not path.is_file():
        raise CheckpointError(
            f"the sweep in {folder} has no checkpoint yet: none of its trials has ended with one; "
            f"metro-ray tune --status {folder} shows how far they are"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        checkpoint, config = folder / values.pop("checkpoint"), folder / values.pop("config")
        best = BestOfSweep(checkpoint=checkpoint, config=config, **values)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    read_meta(best.checkpoint, PREDICTOR_FILES)  # refuses a folder that is not whole
    return best


def write_best(ledger: Ledger, record: SweepRecord) -> BestOfSweep | None:
    """Write `best.json` and `best.yaml` of the best checkpoint; None where there is none."""
    found = [
        (*measured, trial)
        for trial in ledger.trials.values()
        if trial.has_ended and (measured := measured_checkpoint(ledger, trial)) is not None
    ]
    if not found:
        return None
    value, meta, trial = min(found, key=lambda item: (item[0], item[2].number))
    values = trial.values_at(meta.epoch)
    folder = ledger.folder
    config = best_config(record.base, record.space, values, folder / "best_run")
    title = (
        f"# Trial {trial.number} of a sweep: PA-MPJPE {value:.1f} mm after epoch {meta.epoch}.\n"
    )
    write_bytes(folder / BEST_PRESET, (title + dump_yaml(config)).encode())
    checkpoint = ledger.trial_folder(trial.number) / _CHECKPOINT
    write_json(
        folder / BEST_FILE,
        {
            "checkpoint": checkpoint.relative_to(folder).as_posix(),
            "metric": METRIC,
            "value": value,
            "trial": trial.number,
            "epoch": meta.epoch,
            "values": values,
            "config": BEST_PRESET,
        },
    )
    return best_checkpoint(folder)


def measured_checkpoint(ledger: Ledger, trial: Trial) -> tuple[float, CheckpointMeta] | None:
    """Error and meta data of a trial's best checkpoint; None without one that was validated."""
    try:
        meta = read_meta(ledger.trial_folder(trial.number) / _CHECKPOINT)
    except MetroRayError:
        return None
    value = meta.metrics.get(METRIC)
    return None if value is None else (value, meta)
