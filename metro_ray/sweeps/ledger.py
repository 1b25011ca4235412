"""The ledger of a sweep: what was decided about each trial, on disk before it happens.

    SWEEP/sweep.json            the settings
    SWEEP/trials/007/trial.json a `Trial`
    SWEEP/trials/007/...        what its run writes: metrics.csv, log.txt, checkpoints

Numbers over time are not repeated here: they are in the run's `metrics.csv`. Only the process that
runs the sweep writes the ledger, so one killed at any moment leaves it whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from metro_ray.config.load import from_dict, to_dict
from metro_ray.config.schema import TrainConfig
from metro_ray.config.space import Space, parse_space, values_from_json
from metro_ray.config.sweep import METRIC, SweepConfig, sweep_to_dict
from metro_ray.errors import ConfigError
from metro_ray.training.files import write_json
from metro_ray.training.recorder import read_rows

FORMAT = 1
SWEEP_FILE, TRIAL_FILE, TRIALS = "sweep.json", "trial.json", "trials"
State = Literal["waiting", "running", "done", "stopped", "failed"]
ENDED: tuple[State, ...] = ("done", "stopped", "failed")


class Epoch(NamedTuple):
    """A validation of a trial."""

    epoch: int
    """Complete epochs."""
    pa_mpjpe_mm: float
    seconds: float
    """Since the trial's first step, earlier parts of a continued one included."""
    images_per_second: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One trial."""

    number: int
    values: dict[str, Any]
    """What it began with, by dotted key."""
    state: State = "waiting"
    epochs: int = 0
    """Epochs that it reported."""
    starts: int = 0
    """How often it was started."""
    wall_seconds: float = 0.0
    """From its starts to its ends; where the sweep was killed meanwhile, that part is missing."""
    error: str | None = None
    """Why it failed."""
    parameters: int | None = None
    """Trained numbers of its network."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """Of population-based training: after which epoch it went on from which trial with which
    values."""

    @property
    def has_ended(self) -> bool:
        """Whether it will not train any more."""
        return self.state in ENDED

    @property
    def current(self) -> dict[str, Any]:
        """What it trains with now; only population-based training changes values."""
        return self.values_at(None)

    def values_at(self, epoch: int | None) -> dict[str, Any]:
        """What it trained with towards `epoch`; None: now."""
        values = dict(self.values)
        for change in self.changes:
            if epoch is None or change["epoch"] < epoch:
                values |= values_from_json(change["values"])
        return values


class SweepRecord(NamedTuple):
    """What `sweep.json` holds."""

    base: TrainConfig
    sweep: SweepConfig
    space: Space


class Ledger:
    """The folder of a sweep.

    Args:
        folder: Of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trials: dict[int, Trial] = {}
        """By number."""

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """The ledger of a sweep that was begun.

        Raises:
            ConfigError: There is none in this folder, or a trial's file cannot be read.
        """
        if not (folder / SWEEP_FILE).is_file():
            raise ConfigError(
                f"{folder} holds no sweep ({SWEEP_FILE} is missing): give the run.output_dir of one"
            )
        ledger = cls(folder)
        for path in sorted((folder / TRIALS).glob(f"*/{TRIAL_FILE}")):
            trial = _read_trial(path)
            ledger.trials[trial.number] = trial
        return ledger

    @classmethod
    def begin(cls, folder: Path, record: SweepRecord) -> Ledger:
        """A new ledger; trials of an earlier sweep in the folder are removed."""
        shutil.rmtree(folder / TRIALS, ignore_errors=True)
        (folder / TRIALS).mkdir(parents=True)
        ledger = cls(folder)
        ledger.write_settings(record)
        return ledger

    def write_settings(self, record: SweepRecord) -> None:
        """Write `sweep.json`."""
        values = {
            "format": FORMAT,
            "base": to_dict(record.base),
            "tune": sweep_to_dict(record.sweep),
            "space": record.space.to_dict(),
        }
        write_json(self.folder / SWEEP_FILE, values)

    def settings(self) -> SweepRecord:
        """Read `sweep.json`.

        Raises:
            ConfigError: It cannot be read, or is of a format from the future.
        """
        path = self.folder / SWEEP_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] > FORMAT:
                raise ConfigError(
                    f"{path} has format {values['format']}: install a newer metro_ray"
                )
            tune = values["tune"] | {"space": tuple(values["tune"]["space"])}
            space, problems = parse_space(values["space"], str(path))
            if problems:
                raise ConfigError("\n".join(problems))
            return SweepRecord(from_dict(values["base"]), SweepConfig(**tune), space)
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path} cannot be read: {error}") from error

    def trial_folder(self, number: int) -> Path:
        """Folder of a trial's run."""
        return self.folder / TRIALS / f"{number:03d}"

    def put(self, trial: Trial) -> Trial:
        """Write a trial, new or changed."""
        folder = self.trial_folder(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / TRIAL_FILE, asdict(trial))
        self.trials[trial.number] = trial
        return trial

    def change(self, number: int, **changes: Any) -> Trial:
        """Write a trial with some fields changed."""
        return self.put(replace(self.trials[number], **changes))

    def history(self, number: int) -> list[Epoch]:
        """The validations of a trial by epoch; of one that has ended, those that were reported."""
        trial = self.trials[number]
        epochs = read_history(self.trial_folder(number))
        return [e for e in epochs if not trial.has_ended or e.epoch <= trial.epochs]

    def score(self, number: int) -> Epoch | None:
        """The best validation of a trial; None before its first."""
        return min(self.history(number), key=lambda epoch: epoch.pa_mpjpe_mm, default=None)

    def best(self) -> tuple[Trial, Epoch] | None:
        """The best trial and its best validation; None before any."""
        scored = [(trial, self.score(trial.number)) for trial in self.trials.values()]
        found = [(trial, epoch) for trial, epoch in scored if epoch is not None]
        return min(found, key=lambda pair: pair[1].pa_mpjpe_mm, default=None)


def read_history(folder: Path) -> list[Epoch]:
    """Validations of the run in `folder` by epoch, from its `metrics.csv`."""
    speeds: dict[int, float] = {}
    epochs: dict[int, Epoch] = {}
    for row in read_rows(folder / "metrics.csv"):
        number = int(row["epoch"])
        if row["kind"] == "epoch" and "epoch/images_per_second" in row:
            speeds[number + 1] = float(row["epoch/images_per_second"])
        elif row["kind"] == "val" and METRIC in row:
            seconds = float(row["seconds"])
            epochs[number] = Epoch(number, float(row[METRIC]), seconds, speeds.get(number))
    return [epochs[number] for number in sorted(epochs)]


def _read_trial(path: Path) -> Trial:
    try:
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Trial(**{**values, "values": values_from_json(values["values"])})
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
