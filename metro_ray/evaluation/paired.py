"""Two evaluations of the same rows, row by row: differences and how sure they are."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metro_ray.errors import DataError
from metro_ray.evaluation.per_sample import PerSample

_ERRORS = ("pa_mpjpe", "mpjpe", "mpve", "pa_mpve", "accel")
_RESAMPLES = 2000
_CHUNK_NUMBERS = 4_000_000


class PairedDifference(NamedTuple):
    """Of one error: B minus A, millimetres; below zero B is better."""

    name: str
    """Of `figures.TITLES`, or a joint."""
    num_rows: int
    a_mm: float
    b_mm: float
    mean_mm: float
    low_mm: float
    high_mm: float
    """95 % bootstrap interval of the mean difference over rows."""
    num_better: int
    """Rows in which B has the smaller error."""
    num_worse: int
    """Rows in which B has the larger error; the others are equal."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low_mm > 0 or self.high_mm < 0


class PairedRows(NamedTuple):
    """Rows that both evaluations have, in the order of the data set."""

    keys: tuple[str, ...]
    a_rows: Int[np.ndarray, " N"]
    b_rows: Int[np.ndarray, " N"]


def pair_rows(a: PerSample, b: PerSample) -> PairedRows:
    """Match two evaluations by row number and key.

    Raises:
        DataError: they have no row in common, or are of different joints.
    """
    if a.meta["joints"] != b.meta["joints"]:
        raise DataError(
            f"{a.path} measures {len(a.meta['joints'])} joints of a {a.meta['kind']}, {b.path} "
            f"{len(b.meta['joints'])} of a {b.meta['kind']}: their errors cannot be compared; "
            "compare evaluations of the same joints"
        )
    places = {pair: i for i, pair in enumerate(zip(b.table.row_id, b.table.keys, strict=True))}
    found = [
        (i, places[pair])
        for i, pair in enumerate(zip(a.table.row_id, a.table.keys, strict=True))
        if pair in places
    ]
    if not found:
        raise DataError(
            f"{a.path} and {b.path} have no row in common (same number and key): they are of "
            "different data sets; evaluate both on the same data.val_yaml"
        )
    mine, theirs = np.array(found, np.int64).T
    return PairedRows(tuple(a.table.keys[i] for i in mine), mine, theirs)


def row_differences(
    a: PerSample, b: PerSample, rows: PairedRows, name: str
) -> Float[np.ndarray, " N"]:
    """B minus A of one error (`mpjpe`, ..), millimetres; NaN where one of them has none."""
    return _errors_mm(b, rows.b_rows, name) - _errors_mm(a, rows.a_rows, name)


def _errors_mm(
    sample: PerSample, rows: Int[np.ndarray, " N"], name: str
) -> Float[np.ndarray, " N"]:
    has_label = sample.table.has_mesh if "mpve" in name else sample.table.has_joints_3d
    return 1000.0 * np.where(has_label, getattr(sample.table, name), np.nan)[rows]


def paired_differences(a: PerSample, b: PerSample, seed: int = 0) -> list[PairedDifference]:
    """All errors that both have.

    Args:
        a: the evaluation to compare with.
        b: the other one.
        seed: of the bootstrap.

    Raises:
        DataError: they have no row in common, or are of different joints.
    """
    rows = pair_rows(a, b)
    found = []
    for name in _ERRORS:
        mine, theirs = _errors_mm(a, rows.a_rows, name), _errors_mm(b, rows.b_rows, name)
        if np.isfinite(mine + theirs).any():
            found.append(_difference(f"{name}_mm", mine, theirs, seed))
    return found


def joint_differences(
    a: PerSample, b: PerSample, *, aligned: bool, seed: int = 0
) -> list[PairedDifference]:
    """The same of each joint, by its name; none where the rows have no labelled joints.

    Args:
        a: the evaluation to compare with.
        b: the other one.
        aligned: errors after Procrustes alignment, else after root alignment.
        seed: of the bootstrap.

    Raises:
        DataError: they have no row in common, or are of different joints.
    """
    rows = pair_rows(a, b)
    column = "pa_joint_errors" if aligned else "joint_errors"
    mine, theirs = (
        1000.0 * np.asarray(getattr(sample.table, column), np.float64)[chosen]
        for sample, chosen in ((a, rows.a_rows), (b, rows.b_rows))
    )
    if not np.isfinite(mine + theirs).any():
        return []
    return [
        _difference(str(name), mine[:, joint], theirs[:, joint], seed)
        for joint, name in enumerate(a.meta["joints"])
    ]


def _difference(
    name: str, a_mm: Float[np.ndarray, " N"], b_mm: Float[np.ndarray, " N"], seed: int
) -> PairedDifference:
    """Of rows that have both numbers; at least one has."""
    exists = np.isfinite(a_mm) & np.isfinite(b_mm)
    mine, theirs = a_mm[exists], b_mm[exists]
    differences = theirs - mine
    low, high = bootstrap_interval(differences, seed)
    return PairedDifference(
        name=name,
        num_rows=len(differences),
        a_mm=_mean(mine),
        b_mm=_mean(theirs),
        mean_mm=_mean(differences),
        low_mm=low,
        high_mm=high,
        num_better=int((differences < 0).sum()),
        num_worse=int((differences > 0).sum()),
    )


def bootstrap_interval(
    values: Float[np.ndarray, " N"], seed: int = 0, share: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean when the rows are drawn again with replacement.

    Rows of a video are not independent, so for videos it is narrower than it should be.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK_NUMBERS // len(values))
    means = np.concatenate(
        [
            values[
                rng.integers(0, len(values), (min(at_once, _RESAMPLES - start), len(values)))
            ].mean(axis=1)
            for start in range(0, _RESAMPLES, at_once)
        ]
    )
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def _mean(values: Float[np.ndarray, " N"]) -> float:
    return math.fsum(values.tolist()) / len(values)
