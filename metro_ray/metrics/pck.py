"""PCK: the share of joints that lie near enough to the truth, as a curve over thresholds, and AUC.

Bodies, as the MPI-INF-3DHP test scripts have it (`mpii_compute_3d_pck.m`): errors *below* a
threshold count, thresholds 0, 5, .. 150 mm, AUC is the mean of the curve. Hands, as FreiHAND's
`eval.py` has it: errors *up to* a threshold count, 100 thresholds from 0 to 50 mm, AUC is the area
by the trapezoidal rule over the width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True, slots=True)
class PckRule:
    """Thresholds, which errors they let pass, and how the area is taken."""

    thresholds_mm: Float[np.ndarray, " K"]
    passes: Literal["below", "up_to"]
    area: Literal["mean", "trapezoid"]

    @property
    def name(self) -> str:
        """Of the largest threshold, as in metric names: `150mm`."""
        return f"{self.thresholds_mm[-1]:.0f}mm"

    @property
    def text(self) -> str:
        """The rule in words, for reports."""
        sign = "<" if self.passes == "below" else "<="
        how = "mean of the curve" if self.area == "mean" else "area under the curve / its width"
        count, last = len(self.thresholds_mm), self.thresholds_mm[-1]
        return (
            f"PCK@{last:.0f} mm: joints with an error {sign} {last:.0f} mm; AUC: {how} at {count} "
            f"thresholds from 0 to {last:.0f} mm"
        )


BODY_PCK = PckRule(thresholds_mm=np.linspace(0.0, 150.0, 31), passes="below", area="mean")
HAND_PCK = PckRule(thresholds_mm=np.linspace(0.0, 50.0, 100), passes="up_to", area="trapezoid")


def pck_rule(kind: Literal["body", "hand"]) -> PckRule:
    """The rule of bodies or hands."""
    return BODY_PCK if kind == "body" else HAND_PCK


def pck_curve(errors_mm: Float[np.ndarray, "N J"], rule: PckRule) -> Float[np.ndarray, " K"]:
    """Share of all joints of all samples within each threshold; NaN without samples."""
    if errors_mm.size == 0:
        return np.full(len(rule.thresholds_mm), math.nan)
    ordered = np.sort(errors_mm, axis=None)
    side = "left" if rule.passes == "below" else "right"
    return np.searchsorted(ordered, rule.thresholds_mm, side=side) / errors_mm.size


def area_under(curve: Float[np.ndarray, " K"], rule: PckRule) -> float:
    """AUC of a curve, 0 to 1."""
    if rule.area == "mean":
        return float(curve.mean())
    width = rule.thresholds_mm[-1] - rule.thresholds_mm[0]
    return float(np.trapezoid(curve, rule.thresholds_mm) / width)
