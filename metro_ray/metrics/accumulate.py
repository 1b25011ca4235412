"""Means as sums and counts, so that parts of a data set merge into the mean of the whole.

METRO averages the averages of its batches and then of its processes: 100 samples at 10 mm on one
process and 10 at 50 mm on another read 30.0 mm instead of 13.6 (see `metro_compat`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor


class MeanMeter(NamedTuple):
    """A mean that can still be merged."""

    total: float = 0.0
    count: int = 0

    @property
    def mean(self) -> float:
        """The mean; NaN where nothing was counted, because 0 would read as perfect."""
        return self.total / self.count if self.count else math.nan

    def merge(self, other: MeanMeter) -> MeanMeter:
        """The meter of both parts together."""
        return MeanMeter(self.total + other.total, self.count + other.count)


Meters = dict[str, MeanMeter]


def weighted_mean(errors: Float[Tensor, " B"], counts: Bool[Tensor, " B"]) -> MeanMeter:
    """Meter of the errors whose row counts; what the other rows hold, even NaN, does not matter."""
    chosen = errors[counts]
    return MeanMeter(math.fsum(chosen.tolist()), len(chosen))


def merge_all(parts: Iterable[Mapping[str, MeanMeter]]) -> Meters:
    """Merge meters of the same name; a name that a part lacks adds nothing."""
    merged: Meters = {}
    for part in parts:
        for name, meter in part.items():
            merged[name] = merged.get(name, MeanMeter()).merge(meter)
    return merged


def all_reduce_with(
    sum_over_ranks: Callable[[dict[str, float]], dict[str, float]],
) -> Callable[[Meters], Meters]:
    """Turn "add these numbers over all ranks" into "merge these meters over all ranks".

    Args:
        sum_over_ranks: takes the same names on every rank and returns their sums over the ranks.
    """

    def reduce(meters: Meters) -> Meters:
        numbers: dict[str, float] = {}
        for name, meter in meters.items():
            numbers[f"{name}/total"] = meter.total
            numbers[f"{name}/count"] = float(meter.count)
        sums = sum_over_ranks(numbers)
        return {
            name: MeanMeter(sums[f"{name}/total"], round(sums[f"{name}/count"])) for name in meters
        }

    return reduce
