"""Two evaluations compared: what differs in errors, joints, rows and settings, and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from metro_ray.errors import DataError
from metro_ray.evaluation.figures import TITLES
from metro_ray.evaluation.paired import (
    PairedDifference,
    PairedRows,
    joint_differences,
    pair_rows,
    paired_differences,
    row_differences,
)
from metro_ray.evaluation.per_sample import PerSample

_RANKED_BY = ("mpve", "pa_mpjpe", "mpjpe")
_SAME_PROTOCOL = ("title", "mesh", "crop", "views", "joints", "alignment")
_NOT_SETTINGS = ("run.output_dir",)
"""It differs in every two runs and changes no number."""


class RowChange(NamedTuple):
    """A row and how its error differs."""

    row_id: int
    key: str
    a_mm: float
    b_mm: float

    @property
    def difference_mm(self) -> float:
        """B minus A."""
        return self.b_mm - self.a_mm


class SettingDifference(NamedTuple):
    """A setting that the two runs do not share; a dash where one has none."""

    name: str
    a: str
    b: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Of evaluation B with evaluation A; below zero B is better."""

    a: PerSample
    b: PerSample
    rows: PairedRows
    figures: Sequence[PairedDifference]
    joints: Sequence[PairedDifference]
    """After root alignment; empty without labelled joints."""
    aligned_joints: Sequence[PairedDifference]
    """After Procrustes alignment."""
    ranked_by: str
    """Error that `improved` and `worsened` are about: `mpve`, .."""
    improved: Sequence[RowChange]
    """Rows of which B has less error, most first."""
    worsened: Sequence[RowChange]
    settings: Sequence[SettingDifference]
    environment: Sequence[SettingDifference]
    """Machine, versions and code."""
    warnings: Sequence[str]
    """Why the difference may not be the networks'."""


def compare(a: PerSample, b: PerSample, *, num_rows: int = 5, seed: int = 0) -> Comparison:
    """Pair two evaluations row by row.

    Args:
        a: what is compared with.
        b: what is compared.
        num_rows: most rows of `improved`, and of `worsened`.
        seed: of the bootstrap intervals.

    Raises:
        DataError: they have no measured row in common, or are of different joints.
    """
    rows = pair_rows(a, b)
    figures = paired_differences(a, b, seed)
    if not figures:
        raise DataError(
            f"{a.path} and {b.path} share {len(rows.keys)} rows, but none that both measured: "
            "evaluate both on the same, labelled data.val_yaml"
        )
    known = {one.name for one in figures}
    ranked_by = next((name for name in _RANKED_BY if f"{name}_mm" in known), _RANKED_BY[0])
    changes = row_differences(a, b, rows, ranked_by)
    order = np.argsort(np.where(np.isfinite(changes), changes, 0.0), kind="stable")
    falling = [place for place in order[:num_rows] if changes[place] < 0]
    rising = [place for place in order[::-1][:num_rows] if changes[place] > 0]

    def row(place: int) -> RowChange:
        mine = 1000.0 * getattr(a.table, ranked_by)[rows.a_rows[place]]
        row_id = int(a.table.row_id[rows.a_rows[place]])
        return RowChange(row_id, rows.keys[place], float(mine), float(mine + changes[place]))

    return Comparison(
        a=a,
        b=b,
        rows=rows,
        figures=figures,
        joints=joint_differences(a, b, aligned=False, seed=seed),
        aligned_joints=joint_differences(a, b, aligned=True, seed=seed),
        ranked_by=ranked_by,
        improved=[row(int(place)) for place in falling],
        worsened=[row(int(place)) for place in rising],
        settings=setting_differences(a.meta.get("config", {}), b.meta.get("config", {})),
        environment=setting_differences(
            a.meta.get("environment", {}), b.meta.get("environment", {})
        ),
        warnings=_warnings(a, b, rows),
    )


def setting_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[SettingDifference]:
    """Settings that differ between two configurations as `to_dict` gives them, of any version."""
    mine, theirs = _flat(a), _flat(b)
    names = [*mine, *(name for name in theirs if name not in mine)]
    return [
        SettingDifference(name, mine.get(name, "-"), theirs.get(name, "-"))
        for name in names
        if mine.get(name, "-") != theirs.get(name, "-") and name not in _NOT_SETTINGS
    ]


def difference_distribution(comparison: Comparison) -> Float[np.ndarray, " N"]:
    """B minus A of every row that both measured, millimetres, of `ranked_by`."""
    found = row_differences(comparison.a, comparison.b, comparison.rows, comparison.ranked_by)
    return found[np.isfinite(found)]


def comparison_text(comparison: Comparison, names: tuple[str, str]) -> str:
    """The comparison for a terminal.

    Args:
        comparison: of two evaluations.
        names: what A and B are called.
    """
    one = comparison
    lines = [
        f"{letter}  {name}  ({sample.path.name}, {len(sample.table.row_id)} rows)"
        for letter, name, sample in zip("AB", names, (one.a, one.b), strict=True)
    ]
    lines += [f"{len(one.rows.keys)} rows in both, paired by number and key"]
    lines += [f"warning: {text}" for text in one.warnings]
    head = ["mm", "A", "B", "B - A", "95 % interval", "", "B better", "worse"]
    table = [head, *(_cells(figure, TITLES[figure.name][0]) for figure in one.figures)]
    lines += ["", *_aligned(table), "* the interval leaves zero out; below zero B is better"]
    if one.aligned_joints:
        cells = [_cells(joint, joint.name) for joint in one.aligned_joints]
        lines += ["", *_aligned([["PA error by joint", *head[1:]], *cells])]
    title = TITLES[f"{one.ranked_by}_mm"][0]
    for words, rows in (("less", one.improved), ("more", one.worsened)):
        if rows:
            cells = [
                [row.key, f"{row.a_mm:.1f}", f"{row.b_mm:.1f}", f"{row.difference_mm:+.1f}"]
                for row in rows
            ]
            lines += ["", *_aligned([[f"{words} {title} in B", "A", "B", "B - A"], *cells])]
    for title, differing in (("setting", one.settings), ("environment", one.environment)):
        if differing:
            cells = [[setting.name, setting.a, setting.b] for setting in differing]
            lines += ["", *_aligned([[title, "A", "B"], *cells], numbers=False)]
    return "\n".join(lines)


def _warnings(a: PerSample, b: PerSample, rows: PairedRows) -> list[str]:
    found = []
    mine, theirs = a.meta["protocol"], b.meta["protocol"]
    for name in _SAME_PROTOCOL:
        if mine.get(name) != theirs.get(name):
            found.append(f"{name}: A has {mine.get(name)!r}, B {theirs.get(name)!r}")
    left = [len(sample.table.row_id) - len(rows.keys) for sample in (a, b)]
    if any(left):
        found.append(f"rows of one evaluation only are left out: {left[0]} of A, {left[1]} of B")
    return found


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            is_list = isinstance(value, list | tuple)
            flat[prefix + name] = ", ".join(map(str, value)) if is_list else str(value)
    return flat


def _cells(one: PairedDifference, title: str) -> list[str]:
    return [
        title,
        f"{one.a_mm:.2f}",
        f"{one.b_mm:.2f}",
        f"{one.mean_mm:+.2f}",
        f"{one.low_mm:+.2f} to {one.high_mm:+.2f}",
        "*" if one.is_clear else "",
        str(one.num_better),
        str(one.num_worse),
    ]


def _aligned(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> list[str]:
    """Columns under each other; all but the first end at the right where they are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if numbers and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
