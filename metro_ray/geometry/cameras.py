"""METRO's weak-perspective camera of a crop, and the perspective camera of the whole picture.

Crop coordinates run from -1 to 1 over the crop, x right and y down. Points are in metres in a
camera-like frame: x right, y down, z away from the camera.

A crop's camera says how large its subject appears, not how far away it is: that takes a focal
length. `full_translation` puts the subject where a camera of a given focal length sees its root at
the same pixel and in the same size. What lies nearer than the root then appears larger and what
lies farther smaller, so the two cameras agree exactly in the root's plane only, and everywhere in
the limit of a long focal length.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metro_ray.errors import DataError
from metro_ray.geometry.boxes import Window


class Intrinsics(NamedTuple):
    """A pinhole camera without distortion; pixel centres have integer coordinates."""

    focal_px: tuple[float, float]
    """Focal length across and down, pixels."""
    principal_point_px: tuple[float, float]
    """Pixel on the optical axis."""


def diagonal_intrinsics(width: int, height: int) -> Intrinsics:
    """What is assumed of an unknown camera: focal length = the picture's diagonal, axis = middle.

    That is a field of view of 53 degrees across the diagonal, a "normal" lens.
    """
    focal = math.hypot(width, height)
    return centered_intrinsics(focal, width, height)


def centered_intrinsics(focal_px: float, width: int, height: int) -> Intrinsics:
    """A camera that looks through the middle of its picture."""
    return Intrinsics((focal_px, focal_px), ((width - 1) / 2, (height - 1) / 2))


def full_translation(
    camera: Float[np.ndarray, " 3"], window: Window, intrinsics: Intrinsics
) -> Float[np.ndarray, " 3"]:
    """Where the origin of a crop's points lies in front of the camera of the whole picture, metres.

    With b the window's side and c its middle as seen from the principal point: z = 2 f / (b s),
    x = tx + 2 c_x / (b s), and y likewise. (Where the two focal lengths, or the sides of METRO's
    windows, differ by a little, depth takes their geometric mean.)

    Args:
        camera: (s, tx, ty) of points whose origin is their root.
        window: what crop coordinates [-1, 1] span.
        intrinsics: of the whole picture.

    Raises:
        DataError: s is not above zero; no camera in front of the points sees them so.
    """
    scale, shift = float(camera[0]), np.asarray(camera[1:], np.float64)
    if not scale > 0 or not np.isfinite(camera).all():
        raise DataError(
            f"the predicted camera (s, tx, ty) = {np.asarray(camera).tolist()} has no place in "
            "front of the picture: s must be above 0; the network has not learned its camera, or "
            "does not see its subject in this box"
        )
    half = 0.5 * np.array([window.width, window.height], np.float64)
    focal = np.array(intrinsics.focal_px, np.float64)
    middle = np.array([window.left, window.top]) - 0.5 + half
    root_px = middle + half * scale * shift
    depth = math.sqrt(focal.prod() / half.prod()) / scale
    xy = (root_px - np.array(intrinsics.principal_point_px)) * depth / focal
    return np.array([*xy, depth])


def project_full(
    points: Float[np.ndarray, "N 3"],
    translation: Float[np.ndarray, " 3"],
    intrinsics: Intrinsics,
) -> Float[np.ndarray, "N 2"]:
    """Pixels of the whole picture where a perspective camera sees points.

    Args:
        points: metres, relative to their root.
        translation: of the root, from `full_translation`.
        intrinsics: of the camera.
    """
    placed = points + translation
    return placed[:, :2] / placed[:, 2:] * np.array(intrinsics.focal_px) + np.array(
        intrinsics.principal_point_px
    )


def project(points: Float[Tensor, "B N 3"], camera: Float[Tensor, "B 3"]) -> Float[Tensor, "B N 2"]:
    """Crop coordinates of 3D points: translate first, then scale.

    Args:
        points: metres, root-relative.
        camera: (s, tx, ty); x_crop = s * (x + tx), with s in 1/metre and t in metres.
    """
    scale, shift = camera[:, None, :1], camera[:, None, 1:]
    return scale * (points[..., :2] + shift)


def crop_to_pixels(
    keypoints_2d: Float[Tensor, "*batch 2"], size_px: float
) -> Float[Tensor, "*batch 2"]:
    """Pixel coordinates inside a square crop: -1 is its left or upper edge, 1 the opposite one.

    A pixel's centre has integer coordinates (as in OpenCV and `geometry.raycast`), so the crop's
    upper left edge is at -0.5.
    """
    return 0.5 * size_px * (keypoints_2d + 1.0) - 0.5


def to_pixel_frame(
    points: Float[Tensor, "B N 3"], camera: Float[Tensor, "B 3"], size_px: float
) -> Float[Tensor, "B N 3"]:
    """Points in the frame that a renderer draws: x, y in pixels of the crop, z to the same scale.

    Args:
        points: metres, root-relative.
        camera: (s, tx, ty).
        size_px: side of the crop in pixels.

    Returns:
        (x_px, y_px, depth_px); a smaller depth is nearer to the camera.
    """
    xy = crop_to_pixels(project(points, camera), size_px)
    depth = 0.5 * size_px * camera[:, None, :1] * points[..., 2:]
    return torch.cat([xy, depth], dim=-1)
