"""Begin a sweep in a folder, or go on with the one that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metro_ray.config.sweep import num_trials, settings_of, sweep_to_dict
from metro_ray.errors import ConfigError
from metro_ray.sweeps.ledger import SWEEP_FILE, Ledger, SweepRecord

_MAY_CHANGE = ("run.", "scaling.")
"""Settings with which a sweep may go on otherwise than it began."""
_TUNE_MAY_CHANGE = ("trials", "concurrent", "max_failures", "keep", "space")


def begin_or_resume(folder: Path, record: SweepRecord) -> Ledger:
    """The ledger to run by: new, or the one in the folder with `run.resume`.

    A sweep may go on with more trials, another number at a time and other settings of run.* and
    scaling.*; what trials are compared by must stay.

    Raises:
        ConfigError: There is a sweep and nothing says what to do with it, or it had other settings.
    """
    run = record.base.run
    if not (folder / SWEEP_FILE).is_file() or run.overwrite:
        return Ledger.begin(folder, record)
    ledger = Ledger.open(folder)
    if not run.resume:
        ended = sum(trial.has_ended for trial in ledger.trials.values())
        raise ConfigError(
            f"run.output_dir {folder} holds a sweep ({ended} of {len(ledger.trials)} trials have "
            "ended): --run.resume true goes on with it, --run.overwrite true replaces it, or "
            "choose another folder"
        )
    _require_same(ledger.settings(), record, folder)
    if num_trials(record.sweep, record.space) < len(ledger.trials):
        raise ConfigError(
            f"the sweep in {folder} has {len(ledger.trials)} trials already: tune.trials must be "
            f"at least that, got {record.sweep.trials}"
        )
    ledger.write_settings(record)
    return ledger


def _require_same(before: SweepRecord, now: SweepRecord, folder: Path) -> None:
    old, new = _settings(before), _settings(now)
    differing = [
        f"{key} was {old.get(key, 'not there')} and is {new.get(key, 'not there')} now"
        for key in old | new
        if old.get(key) != new.get(key)
    ]
    if differing:
        raise ConfigError(
            f"the sweep in {folder} cannot go on with other settings: {'; '.join(differing)}. Use "
            "its own, or another run.output_dir"
        )


def _settings(record: SweepRecord) -> dict[str, Any]:
    settings = {
        key: value
        for key, value in settings_of(record.base).items()
        if not key.startswith(_MAY_CHANGE)
    }
    tune = {
        f"tune.{key}": value
        for key, value in sweep_to_dict(record.sweep).items()
        if key not in _TUNE_MAY_CHANGE
    }
    varied = {f"the space's {d.key}": d.text for d in record.space.dimensions}
    fixed = {f"the space's {key}": value for key, value in record.space.fixed.items()}
    return settings | tune | varied | fixed
