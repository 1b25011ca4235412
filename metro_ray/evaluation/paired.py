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
    """Of `figures.TITLES`."""
    num_rows: int
    a_mm: float
    b_mm: float
    mean_mm: float
    low_mm: float
    high_mm: float
    """95 % bootstrap interval of the mean difference over rows."""
    better_share: float
    """Rows in which B has the smaller error."""

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
        DataError: they have no row in common.
    """
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
    label = "has_mesh" if "mpve" in name else "has_joints_3d"
    values = []
    for sample, chosen in ((a, rows.a_rows), (b, rows.b_rows)):
        errors = np.where(getattr(sample.table, label), getattr(sample.table, name), np.nan)
        values.append(1000.0 * errors[chosen])
    return values[1] - values[0]


def paired_differences(a: PerSample, b: PerSample, seed: int = 0) -> list[PairedDifference]:
    """All errors that both have.

    Args:
        a: the evaluation to compare with.
        b: the other one.
        seed: of the bootstrap.

    Raises:
        DataError: they have no row in common.
    """
    rows = pair_rows(a, b)
    found = []
    for name in _ERRORS:
        differences = row_differences(a, b, rows, name)
        exists = np.isfinite(differences)
        if not exists.any():
            continue
        low, high = bootstrap_interval(differences[exists], seed)
        found.append(
            PairedDifference(
                name=f"{name}_mm",
                num_rows=int(exists.sum()),
                a_mm=1000.0 * _mean(getattr(a.table, name)[rows.a_rows][exists]),
                b_mm=1000.0 * _mean(getattr(b.table, name)[rows.b_rows][exists]),
                mean_mm=_mean(differences[exists]),
                low_mm=low,
                high_mm=high,
                better_share=float((differences[exists] < 0).mean()),
            )
        )
    return found


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
