"""Population-based training: a trial goes on from another's checkpoint with changed values."""

from __future__ import annotations

import json
import random
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metro_ray.config.space import Dimension, Space
from metro_ray.errors import CheckpointError
from metro_ray.training.checkpoint_meta import META, read_meta
from metro_ray.training.files import replace_link, write_json

_REDRAW = 0.25
"""Chance that a value is drawn anew instead of changed a little (as in the paper's code)."""
_FACTORS = (0.8, 1.2)


_ATTEMPTS = 5


def adopt_checkpoint(donor: Path, run_dir: Path, takeover: int) -> None:
    """Make the last checkpoint of the run `donor` the last one of the run in `run_dir`.

    Its list of best checkpoints stays behind: those are the donor's. Does nothing where this
    takeover has been made, so that a trial that is started again keeps what it has learned since.

    Args:
        donor: Folder of the run to go on from, which may be training.
        run_dir: Folder of the run that goes on.
        takeover: Number of this takeover within that run, from 1.

    Raises:
        CheckpointError: The donor has no whole checkpoint.
        OSError: It cannot be copied.
    """
    root = run_dir / "checkpoints"
    root.mkdir(parents=True, exist_ok=True)
    is_made = root / f".takeover-{takeover}"
    if is_made.exists():
        return
    last = donor / "checkpoints" / "last"
    for attempts_left in reversed(range(_ATTEMPTS)):
        source = last.resolve()
        try:
            name = _copy(source, root)
            break
        except (OSError, CheckpointError):
            if not attempts_left or last.resolve() == source:
                raise  # else the donor has a new one meanwhile and removed this
    replace_link(root / "last", name)
    is_made.touch()


def _copy(source: Path, root: Path) -> str:
    """Copy a checkpoint into a run's folder under a name that its run prunes like its own."""
    meta = read_meta(source)
    name = f"checkpoint-{meta.epoch}-{meta.step}.adopted-{secrets.token_hex(2)}"
    partial = root / f".partial-{name}"
    shutil.copytree(source, partial)
    values = json.loads((partial / META).read_text(encoding="utf-8"))
    write_json(partial / META, {**values, "best": []})
    partial.rename(root / name)
    return name


def explore(space: Space, values: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """Values near those of a good trial, within the space."""
    return {
        dimension.key: _near(dimension, values[dimension.key], rng)
        for dimension in space.dimensions
    }


def _near(dimension: Dimension, value: Any, rng: random.Random) -> Any:
    if rng.random() < _REDRAW:
        return dimension.draw(rng)
    if dimension.is_list:
        place = dimension.values.index(value) + rng.choice((-1, 1))
        return dimension.values[min(max(place, 0), len(dimension.values) - 1)]
    near = min(max(value * rng.choice(_FACTORS), dimension.low), dimension.high)
    if dimension.distribution == "quniform":
        near = dimension.low + dimension.step * round((near - dimension.low) / dimension.step)
    return dimension.number(near)
