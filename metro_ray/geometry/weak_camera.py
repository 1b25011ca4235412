"""The weak-perspective camera that best takes 3D joints to their pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class WeakCamera(NamedTuple):
    """pixels = scale * (x, y) + shift, and how well that fits."""

    scale: float
    """Pixels per metre (or per unit of the points); negative where the points are upside down."""
    shift: Float[np.ndarray, " 2"]
    """Where the points' origin appears, pixels."""
    error_px: float
    """Root of the mean squared distance that is left, pixels."""
    relative_error: float
    """`error_px` over the root of the mean squared distance of the pixels from their mean."""

    def project(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Pixels, and depth to the same scale."""
        pixels = self.scale * points
        pixels[:, :2] += self.shift
        return pixels


def fit_weak_camera(
    points: Float[np.ndarray, "N 3"], pixels: Float[np.ndarray, "N 2"]
) -> WeakCamera:
    """Least-squares scale and shift; nothing is turned, for labels are in the camera's frame.

    Args:
        points: x right, y down, z away from the camera, any unit.
        pixels: where they were seen.

    Returns:
        The camera; scale 0 where all points lie behind each other.
    """
    xy = points[:, :2]
    middle, target = xy.mean(axis=0), pixels.mean(axis=0)
    centred, wanted = xy - middle, pixels - target
    spread = float(np.square(centred).sum())
    scale = float((centred * wanted).sum()) / spread if spread > 0 else 0.0
    rest = np.square(scale * centred - wanted).sum(axis=1).mean()
    size = np.square(wanted).sum(axis=1).mean()
    relative = float(np.sqrt(rest / size)) if size > 0 else 0.0
    return WeakCamera(scale, target - scale * middle, float(np.sqrt(rest)), relative)
