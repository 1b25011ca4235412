"""What an evaluation reports: metrics in millimetres, a table of every row, METRO's log line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from metro_ray.metrics.accumulate import MeanMeter
from metro_ray.metrics.metro_compat import MetroAverages, RowErrors, metro_averages

ERROR_NAMES = ("mpjpe", "pa_mpjpe", "mpve", "pa_mpve")


class EvaluationTable(NamedTuple):
    """Errors of every valid row that this process saw, metres.

    Errors are computed for all rows; `has_joints_3d` and `has_mesh` tell which mean something.
    """

    row_id: Int[np.ndarray, " N"]
    keys: tuple[str, ...]  # "" where the batches carried none
    mpjpe: Float[np.ndarray, " N"]
    pa_mpjpe: Float[np.ndarray, " N"]
    mpve: Float[np.ndarray, " N"]
    pa_mpve: Float[np.ndarray, " N"]
    has_joints_3d: Bool[np.ndarray, " N"]
    has_mesh: Bool[np.ndarray, " N"]

    def metro_averages(self, batch_size: int, world_size: int) -> MetroAverages:
        """METRO's own validation averages of these rows (compatibility figures, metres)."""
        order = np.argsort(self.row_id, kind="stable")
        errors = RowErrors(
            self.mpve, self.mpjpe, self.pa_mpjpe, self.has_mesh, self.has_joints_3d
        ).take(order)
        return metro_averages(errors, batch_size, world_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """Exact means over a data set: every valid row counted once, at any world and batch size."""

    metrics: dict[str, float]
    """`<split>/mpjpe_mm` and so on; NaN where no row carries the label. Row counts beside them."""
    table: EvaluationTable | None = None
    """This process's rows, where it was asked for."""


def metrics_from_meters(meters: Mapping[str, MeanMeter], split: str) -> dict[str, float]:
    """Name and scale the merged meters: metres become millimetres, counts become floats."""
    metrics = {f"{split}/{name}_mm": 1000.0 * meters[name].mean for name in ERROR_NAMES}
    metrics[f"{split}/num_rows"] = float(meters["rows"].count)
    metrics[f"{split}/num_mesh_rows"] = float(meters["mpve"].count)
    metrics[f"{split}/num_joint_rows"] = float(meters["mpjpe"].count)
    return metrics


def metro_line(epoch: int, metrics: Mapping[str, float], split: str = "val") -> str:
    """METRO's validation line; like METRO it shows 0.00 where nothing was labelled."""

    def shown(name: str) -> float:
        value = metrics[f"{split}/{name}_mm"]
        return 0.0 if math.isnan(value) else value

    return (
        f"Validation epoch: {epoch}  mPVE: {shown('mpve'):6.2f}, "
        f"mPJPE: {shown('mpjpe'):6.2f}, PAmPJPE: {shown('pa_mpjpe'):6.2f}"
    )
