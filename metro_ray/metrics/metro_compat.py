"""METRO's own averages, kept as named compatibility figures to compare with its logs and tables.

They depend on the batch size and on the number of processes (reference quirks 59 and 60):

- every process sees a strided share of the rows, padded with the first rows to equal lengths, and
  padded rows count twice;
- a batch's MPJPE is the mean over its rows with 3D joints; its PA-MPJPE is the mean over *all* of
  its rows, weighted by the number with 3D joints;
- a process that never met a label reports 0, or NaN for PA-MPJPE, and is averaged in;
- the processes' averages are averaged without weights.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class RowErrors(NamedTuple):
    """Errors of N rows in data set order, metres, and which labels the rows carry."""

    mpve: Float[np.ndarray, " N"]
    mpjpe: Float[np.ndarray, " N"]
    pa_mpjpe: Float[np.ndarray, " N"]
    has_mesh: Bool[np.ndarray, " N"]
    has_joints_3d: Bool[np.ndarray, " N"]

    def take(self, rows: Int[np.ndarray, " M"]) -> RowErrors:
        """The chosen rows in the chosen order."""
        return RowErrors(*(column[rows] for column in self))


class MetroAverages(NamedTuple):
    """What METRO reports after a validation: metres, and rows with a mesh, padding included."""

    mpve: float
    mpjpe: float
    pa_mpjpe: float
    count: int


def metro_averages(errors: RowErrors, batch_size: int, world_size: int) -> MetroAverages:
    """METRO's validation averages of the same errors at a batch size and a number of processes."""
    ranks = [
        _rank_averages(errors.take(rank_rows(len(errors.mpve), rank, world_size)), batch_size)
        for rank in range(world_size)
    ]
    columns = list(zip(*ranks, strict=True))
    means = [math.fsum(column) / world_size for column in columns[:3]]
    return MetroAverages(*means, count=sum(columns[3]))


def rank_rows(num_rows: int, rank: int, world_size: int) -> Int[np.ndarray, " M"]:
    """Rows of one process: every world_size-th of all rows, padded with the first ones."""
    padded = np.resize(np.arange(num_rows), math.ceil(num_rows / world_size) * world_size)
    return padded[rank::world_size]


def _rank_averages(errors: RowErrors, batch_size: int) -> MetroAverages:
    mpve, mpjpe, pa_mpjpe = _RunningAverage(), _RunningAverage(), _RunningAverage()
    for start in range(0, len(errors.mpve), batch_size):
        batch = errors.take(np.arange(start, min(start + batch_size, len(errors.mpve))))
        num_joint_rows = int(batch.has_joints_3d.sum())
        mpve.update(batch.mpve[batch.has_mesh], int(batch.has_mesh.sum()))
        mpjpe.update(batch.mpjpe[batch.has_joints_3d], num_joint_rows)
        pa_mpjpe.update(batch.pa_mpjpe, num_joint_rows)
    return MetroAverages(mpve.average, mpjpe.average, pa_mpjpe.average, mpve.count)


class _RunningAverage:
    """0 until the first update; NaN while the updates weigh nothing."""

    def __init__(self) -> None:
        self.average = 0.0
        self.count = 0
        self._total = 0.0

    def update(self, values: Float[np.ndarray, " B"], weight: int) -> None:
        if len(values) == 0:
            return
        self._total += float(values.mean()) * weight
        self.count += weight
        self.average = self._total / self.count if self.count else math.nan
