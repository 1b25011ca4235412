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
from metro_ray.training.checkpoint_meta import META, read_meta
from metro_ray.training.files import replace_link, write_json

_REDRAW = 0.25
"""Chance that a value is drawn anew instead of changed a little (as in the paper's code)."""
_FACTORS = (0.8, 1.2)


def adopt_checkpoint(donor: Path, run_dir: Path) -> None:
    """Make the last checkpoint of the run `donor` the last one of the run in `run_dir`.

    Its list of best checkpoints stays behind: those are the donor's.

    Raises:
        CheckpointError: The donor has no whole checkpoint.
    """
    source = (donor / "checkpoints" / "last").resolve()
    meta = read_meta(source)
    root = run_dir / "checkpoints"
    root.mkdir(parents=True, exist_ok=True)
    name = f"adopted-{meta.epoch}-{meta.step}-{secrets.token_hex(2)}"
    shutil.copytree(source, root / f".{name}")
    values = json.loads((source / META).read_text(encoding="utf-8"))
    write_json(root / f".{name}" / META, {**values, "best": []})
    (root / f".{name}").rename(root / name)
    replace_link(root / "last", name)


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
