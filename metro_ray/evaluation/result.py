"""What an evaluation reports: metrics in millimetres, a table of every row, METRO's log line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from metro_ray.errors import TrainingError
from metro_ray.metrics.metro_compat import MetroAverages, RowErrors, metro_averages

if TYPE_CHECKING:
    from metro_ray.evaluation.figures import Figures

ERROR_NAMES = ("mpjpe", "pa_mpjpe", "mpve", "pa_mpve")


class EvaluationTable(NamedTuple):
    """Errors of valid rows, metres: about 50 bytes a row, 8 more a joint, and its key.

    Errors are computed for all rows; `has_joints_3d` and `has_mesh` tell which mean something.
    """

    row_id: Int[np.ndarray, " N"]
    keys: tuple[str, ...]  # "" where the batches carried none
    source: Int[np.ndarray, " N"]  # file of a composite data set
    mpjpe: Float[np.ndarray, " N"]
    pa_mpjpe: Float[np.ndarray, " N"]
    mpve: Float[np.ndarray, " N"]
    pa_mpve: Float[np.ndarray, " N"]
    accel: Float[np.ndarray, " N"]  # metres per frame squared; NaN without both neighbours
    has_joints_3d: Bool[np.ndarray, " N"]
    has_mesh: Bool[np.ndarray, " N"]
    joint_errors: Float32[np.ndarray, "N J"]  # whose mean is `mpjpe`
    pa_joint_errors: Float32[np.ndarray, "N J"]  # whose mean is `pa_mpjpe`

    def metro_averages(self, batch_size: int, world_size: int) -> MetroAverages:
        """METRO's own validation averages of these rows (compatibility figures, metres)."""
        order = np.argsort(self.row_id, kind="stable")
        errors = RowErrors(
            self.mpve, self.mpjpe, self.pa_mpjpe, self.has_mesh, self.has_joints_3d
        ).take(order)
        return metro_averages(errors, batch_size, world_size)


def empty_table(num_joints: int) -> EvaluationTable:
    """A table without rows."""
    none, flags = np.zeros(0), np.zeros(0, bool)
    ids, joints = np.zeros(0, np.int64), np.zeros((0, num_joints), np.float32)
    return EvaluationTable(ids, (), ids, none, none, none, none, none, flags, flags, joints, joints)


def join_tables(tables: Iterable[EvaluationTable], num_joints: int) -> EvaluationTable:
    """All rows of several tables in the order of the data set.

    Raises:
        TrainingError: a row is in them twice.
    """
    parts = [empty_table(num_joints), *tables]
    keys = [key for part in parts for key in part.keys]
    order = np.argsort(np.concatenate([part.row_id for part in parts]), kind="stable")
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in EvaluationTable._fields
        if name != "keys"
    }
    table = EvaluationTable(keys=tuple(keys[row] for row in order), **columns)
    repeated = np.flatnonzero(np.diff(table.row_id) == 0)
    if len(repeated):
        row = int(repeated[0])
        raise TrainingError(
            f"row {int(table.row_id[row])} ({table.keys[row]}) was evaluated twice, and "
            f"{len(repeated) - 1} more rows: each row must reach exactly one rank, once"
        )
    return table


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """Exact means over a data set: every valid row counted once, at any world and batch size."""

    metrics: dict[str, float]
    """`<split>/mpjpe_mm` and so on; NaN where no row carries the label. Row counts beside them."""
    figures: Figures
    """The same and more: by joint, and as curves."""
    table: EvaluationTable
    """All rows of all processes, in the order of the data set."""


def metro_line(epoch: int, metrics: Mapping[str, float], split: str = "val") -> str:
    """METRO's validation line; like METRO it shows 0.00 where nothing was labelled."""

    def shown(name: str) -> float:
        value = metrics[f"{split}/{name}_mm"]
        return 0.0 if math.isnan(value) else value

    return (
        f"Validation epoch: {epoch}  mPVE: {shown('mpve'):6.2f}, "
        f"mPJPE: {shown('mpjpe'):6.2f}, PAmPJPE: {shown('pa_mpjpe'):6.2f}"
    )
