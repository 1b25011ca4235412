"""METRO's weak-perspective camera.

Crop coordinates run from -1 to 1 over the crop, x right and y down. Points are in metres in a
camera-like frame: x right, y down, z away from the camera.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


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
