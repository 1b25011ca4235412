"""All figures of an evaluation, computed from its table of rows and from nothing else.

So the figures of a run, of its report and of a comparison are the same numbers, at any number of
processes: sums are exact (`math.fsum`), and the table is in the order of the data set.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from metro_ray.evaluation.result import ERROR_NAMES, EvaluationTable
from metro_ray.metrics.pck import area_under, pck_curve, pck_rule

if TYPE_CHECKING:
    from metro_ray.metrics.pck import PckRule

TITLES = {
    "mpjpe_mm": ("MPJPE", "mm", "mean joint error after root alignment"),
    "pa_mpjpe_mm": ("PA-MPJPE", "mm", "mean joint error after rotation, scale and translation"),
    "mpve_mm": ("MPVE", "mm", "mean vertex error, root-relative"),
    "pa_mpve_mm": ("PA-MPVE", "mm", "mean vertex error after rotation, scale and translation"),
    "accel_mm": ("Acceleration", "mm/frame^2", "error of the joints' second differences"),
    "pck": ("PCK", "%", "joints near enough after root alignment"),
    "auc": ("AUC", "%", "area under the PCK curve"),
    "pa_pck": ("PA-PCK", "%", "joints near enough after Procrustes alignment"),
    "pa_auc": ("PA-AUC", "%", "area under the aligned PCK curve"),
}
"""Short name, unit and meaning of each figure, in the order of reports."""


class JointFigure(NamedTuple):
    """Errors of one joint, millimetres."""

    name: str
    mpjpe_mm: float
    pa_mpjpe_mm: float


class Figures(NamedTuple):
    """Means over the rows that carry the label; NaN where none does."""

    means: dict[str, float]
    """By the names of `TITLES`; PCK and AUC are shares, 0 to 1."""
    counts: dict[str, int]
    """`rows`, `joint_rows`, `mesh_rows`, `accel_frames`."""
    joints: tuple[JointFigure, ...]
    rule: PckRule
    pck: Float[np.ndarray, " K"]
    """At each threshold of `rule`."""
    pa_pck: Float[np.ndarray, " K"]

    def metrics(self, split: str) -> dict[str, float]:
        """The means and counts as metrics: `<split>/mpjpe_mm`, `<split>/pck_150mm`, .."""
        named = {
            f"{name}_{self.rule.name}" if name.endswith(("pck", "auc")) else name: value
            for name, value in self.means.items()
        }
        counts = {f"num_{name}": float(count) for name, count in self.counts.items()}
        return {f"{split}/{name}": value for name, value in {**named, **counts}.items()}


def figures_of(
    table: EvaluationTable, kind: Literal["body", "hand"], joint_names: tuple[str, ...]
) -> Figures:
    """Reduce a table to its figures."""
    labels = {"mpjpe": table.has_joints_3d, "pa_mpjpe": table.has_joints_3d}
    labels |= {"mpve": table.has_mesh, "pa_mpve": table.has_mesh}
    means = {f"{name}_mm": _mean_mm(getattr(table, name), labels[name]) for name in ERROR_NAMES}
    in_video = np.isfinite(table.accel) & table.has_joints_3d
    means["accel_mm"] = _mean_mm(table.accel, in_video)
    plain = 1000.0 * table.joint_errors[table.has_joints_3d].astype(np.float64)
    aligned = 1000.0 * table.pa_joint_errors[table.has_joints_3d].astype(np.float64)
    rule = pck_rule(kind)
    curves = {"": pck_curve(plain, rule), "pa_": pck_curve(aligned, rule)}
    for prefix, curve in curves.items():
        means[f"{prefix}pck"] = float(curve[-1])
        means[f"{prefix}auc"] = area_under(curve, rule)
    return Figures(
        means=means,
        counts={
            "rows": len(table.row_id),
            "mesh_rows": int(table.has_mesh.sum()),
            "joint_rows": int(table.has_joints_3d.sum()),
            "accel_frames": int(in_video.sum()),
        },
        joints=tuple(
            JointFigure(name, _mean(plain[:, joint]), _mean(aligned[:, joint]))
            for joint, name in enumerate(joint_names)
        ),
        rule=rule,
        pck=curves[""],
        pa_pck=curves["pa_"],
    )


def shown(name: str, value: float) -> str:
    """A figure with its unit; a dash where it does not exist."""
    unit = TITLES[name][1]
    if not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.2f} {unit}"


def _mean_mm(errors: Float[np.ndarray, " N"], counts: Bool[np.ndarray, " N"]) -> float:
    return 1000.0 * _mean(errors[counts])


def _mean(values: Float[np.ndarray, " N"]) -> float:
    return math.fsum(values.tolist()) / len(values) if len(values) else math.nan
