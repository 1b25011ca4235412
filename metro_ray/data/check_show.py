"""Everything about one row, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from metro_ray.data.check_row import RowFacts
from metro_ray.data.check_rules import RULES, SEVERITIES
from metro_ray.data.rows import RowDataset

_NUMBERS_SHOWN = 6
_TEXT_SHOWN = 100


def describe_row(dataset: RowDataset, facts: RowFacts) -> str:
    """Files, sizes, box, flags, label fields (long ones shortened), and what is odd about them."""
    row = facts.row
    lines = [f"row {facts.row_id}: {facts.key}"]
    if len(dataset.source_names) > 1:
        lines.append(f"source: {dataset.source_names[facts.source]}")
    if row is not None:
        lines += [f"files: {row.where}", *_image_lines(facts), *_box_lines(facts)]
        lines += ["label:", *(f"    {line}" for line in label_lines(row.label))]
    ranked = sorted(facts.problems, key=lambda p: SEVERITIES.index(RULES[p.code].severity))
    lines += [
        f"{RULES[p.code].severity} {p.code}: {RULES[p.code].what}: {p.detail}" for p in ranked
    ]
    if not ranked:
        lines.append("nothing odd was found")
    return "\n".join(lines)


def label_lines(label: Mapping[str, Any]) -> Iterator[str]:
    """A line a field: short values whole, arrays by shape, range and first numbers."""
    for name, value in label.items():
        yield f"{name}: {_shown(value)}"


def _shown(value: object) -> str:
    array = None if isinstance(value, str) else _as_numbers(value)
    if array is None:
        text = repr(value)
        return text if len(text) <= _TEXT_SHOWN else f"{text[: _TEXT_SHOWN - 3]}..."
    if array.size <= _NUMBERS_SHOWN:
        return np.array2string(array, precision=6, separator=", ")
    shape = " x ".join(map(str, array.shape))
    first = ", ".join(f"{number:.4g}" for number in array.reshape(-1)[:_NUMBERS_SHOWN])
    return f"{shape} numbers from {array.min():.4g} to {array.max():.4g}: {first}, ..."


def _as_numbers(value: object) -> np.ndarray | None:
    try:
        array = np.asarray(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    return array if array.ndim and array.size else None


def _image_lines(facts: RowFacts) -> list[str]:
    assert facts.row is not None
    assert facts.image is not None
    size = facts.image.size
    shown = "cannot be decoded" if size is None else f"{size[1]} x {size[0]} px"
    stored = "" if facts.row.hw is None else f"; size file: {facts.row.hw[1]} x {facts.row.hw[0]}"
    return [f"image: {facts.image.format}, {len(facts.row.image_bytes)} bytes, {shown}{stored}"]


def _box_lines(facts: RowFacts) -> list[str]:
    label = None if facts.label is None else facts.label.label
    if label is None or facts.label is None:
        return []
    (x, y), side = label.center, 200 * label.scale
    kinds = {
        "mesh": label.has_mesh,
        "3D joints": label.has_joints_3d,
        "2D joints": label.has_keypoints_2d,
    }
    has = [name for name, there in kinds.items() if there]
    edges = (
        f"x {x - side / 2:.1f} to {x + side / 2:.1f}, y {y - side / 2:.1f} to {y + side / 2:.1f}"
    )
    return [
        f"box: centre ({x:.1f}, {y:.1f}), side {side:.1f} px ({edges})",
        f"labels: {', '.join(has) or 'none'}; body model {facts.label.body_model}",
    ]
