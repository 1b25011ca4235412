"""The settings of a sweep, and the settings that each of its trials has."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from metro_ray.config.checks import Strict, at_least, require
from metro_ray.config.keys import all_keys
from metro_ray.config.load import build_config, value_of
from metro_ray.config.schema import TrainConfig
from metro_ray.config.space import Space

METRIC = "val/pa_mpjpe_mm"
"""What trials are compared by, as checkpoints are within a run; smaller is better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig(Strict):
    """How a sweep searches."""

    space: tuple[str, ...] = ("lr_layers",)
    """Search spaces: names of shipped ones (`metro-ray tune --spaces`) or YAML files; the keys of
    several are varied together."""
    trials: int = 16
    """Trials in all; a grid search has as many as its grid."""
    search: Literal["auto", "random", "grid", "optuna"] = "auto"
    """Where values come from: auto is grid where every key has one, else optuna (TPE)."""
    scheduler: Literal["asha", "median", "pbt", "none"] = "asha"
    """Who stops early: successive halving, those behind the median of the others, none; or
    population-based training, where the worst go on from the best with changed values."""
    grace_epochs: int = 1
    """Epochs before a trial may be stopped or changed."""
    reduction_factor: int = 3
    """ASHA lets one in so many go on at each rung: epochs grace, grace x this, grace x this^2."""
    seed: int = 0
    """Seed of the search; trials train with optim.seed."""
    first: bool = True
    """Begin with the settings as given, where they lie in the space: the best is then no worse."""
    concurrent: int | None = None
    """Trials at a time; None takes as many as the cluster has place for."""
    max_failures: int = 1
    """How often a trial that broke is started again from its last checkpoint."""
    keep: int = 3
    """Trials whose checkpoints stay when they have ended, the best."""

    def __post_init__(self) -> None:
        at_least(1, "tune", self, "trials", "grace_epochs", "concurrent", "keep")
        at_least(0, "tune", self, "seed", "max_failures")
        at_least(2, "tune", self, "reduction_factor")
        require(len(self.space) > 0, "tune.space", "one or more search spaces", self.space)


def chosen_search(sweep: SweepConfig, space: Space) -> Literal["random", "grid", "optuna"]:
    """The search that `tune.search` comes to."""
    if sweep.search != "auto":
        return sweep.search
    is_grid = all(dimension.distribution == "grid" for dimension in space.dimensions)
    return "grid" if is_grid else "optuna"


def num_trials(sweep: SweepConfig, space: Space) -> int:
    """Trials of the whole sweep."""
    if chosen_search(sweep, space) == "grid":
        assert space.num_grid_points is not None
        return space.num_grid_points
    return sweep.trials


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Every setting by dotted key."""
    return {name: value_of(config, name) for name in all_keys()}


def trial_config(
    base: TrainConfig, space: Space, values: Mapping[str, Any], folder: Path | str
) -> TrainConfig:
    """The settings of one trial: the base, what the space fixes, its own values, its folder.

    Checkpoints are written before they are reported, because a trial may be stopped at its report;
    pictures are for the best run only.

    Raises:
        ConfigError: Values that do not fit together.
    """
    own = {
        "run.output_dir": str(folder),
        "run.resume": True,
        "run.overwrite": False,
        "run.background_checkpoints": False,
        "eval.gallery_images": 0,
        "eval.pictures_every": 0,
        "scaling.train_workers": base.scaling.train_workers or 1,
        "scaling.min_train_workers": None,  # places are counted once for the whole sweep
    }
    return build_config(base.kind, settings_of(base) | space.fixed | dict(values) | own)


def best_config(
    base: TrainConfig, space: Space, values: Mapping[str, Any], folder: Path | str
) -> TrainConfig:
    """The settings of a full run with a trial's values, in a folder of its own."""
    own = {"run.output_dir": str(folder), "run.resume": False, "run.overwrite": False}
    own["scaling.train_workers"] = base.scaling.train_workers or 1
    return build_config(base.kind, settings_of(base) | space.fixed | dict(values) | own)


def can_change_midway(key: str) -> bool:
    """Whether a run may go on from a checkpoint with another value of this setting."""
    return key in _MIDWAY or key.partition(".")[0] in ("loss", "augment")


_MIDWAY = (
    "optim.lr",
    "optim.warmup_steps",
    "optim.clip_grad_norm",
    "model.drop_out",
    "model.attention_dropout",
    "model.mask_fraction",
)


def sweep_to_dict(sweep: SweepConfig) -> dict[str, Any]:
    """The settings as plain values."""
    return asdict(sweep) | {"space": list(sweep.space)}


def seeded(sweep: SweepConfig, number: int) -> random.Random:
    """Random numbers of one trial of a sweep: of (seed, number) alone."""
    return random.Random(f"{sweep.seed}/{number}")
