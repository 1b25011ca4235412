"""Boxes around a person or hand, and METRO's mapping between image pixels and crop pixels.

A box is a centre in image pixels and a scale; its side is 200 px x scale, on both axes. METRO maps
points through a matrix, and *truncates* the results to whole pixels, in the crop window
(`crop_window`) as well as for 2D joints (`transform_points`). Both are kept exactly, with float64
in METRO's order of operations, since the last bit decides pixels: FreiHAND's box (centre 112, scale
0.9) times 0.7 gives a window of 127 px and not 126. `crop_coordinates` is the exact counterpart for
points.

Source: METRO metro/utils/image_ops.py (get_transform, transform, crop), described in its data
goldens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metro_ray.errors import DataError

PIXELS_PER_SCALE = 200.0
"""Side of a box of scale 1, pixels."""
MAX_BOX_SIDE = 10_000
"""Largest box that is cropped, pixels; a label beyond it is broken and would exhaust the memory."""


class Window(NamedTuple):
    """Part of an image in whole pixels, [left, right) x [top, bottom); may reach outside it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.bottom - self.top


class Box(NamedTuple):
    """Centre in image pixels (x right, y down) and scale (side / 200 px)."""

    center: tuple[float, float]
    scale: float


def box_from_rectangle(
    left: float, top: float, width: float, height: float, margin: float = 1.2
) -> Box:
    """The square box that METRO's converters put around a rectangle: its longer side x 1.2."""
    center = (left + width / 2.0, top + height / 2.0)
    return Box(center, margin * max(width, height) / PIXELS_PER_SCALE)


def check_box(center: Sequence[float], scale: float) -> None:
    """Refuse boxes that have no size or are not numbers.

    Raises:
        DataError: says what the box was and what it should be.
    """
    if not all(math.isfinite(value) for value in (*center, scale)):
        raise DataError(f"box centre and scale must be finite, got {tuple(center)} and {scale}")
    if scale <= 0:
        raise DataError(f"box scale must be > 0 (box side = 200 px x scale), got {scale}")
    if scale * PIXELS_PER_SCALE > MAX_BOX_SIDE:
        raise DataError(f"box scale must be <= {MAX_BOX_SIDE / PIXELS_PER_SCALE:g}, got {scale}")
    if max(abs(value) for value in center) > 1e6:
        raise DataError(f"box centre must be in pixels of the image, got {tuple(center)}")


def point_matrix(
    center: Sequence[float], scale: float, resolution: tuple[int, int], rotation_deg: float = 0.0
) -> Float[np.ndarray, "3 3"]:
    """METRO's matrix from image pixels to crop pixels.

    Args:
        center: box centre (x, y), image pixels.
        scale: box side / 200 px.
        resolution: crop (height, width), pixels.
        rotation_deg: in-plane rotation of the crop, degrees; points turn by its negative about the
            crop's centre.
    """
    height, width = resolution
    side = PIXELS_PER_SCALE * scale
    matrix = np.zeros((3, 3))
    matrix[0, 0] = float(width) / side
    matrix[1, 1] = float(height) / side
    matrix[0, 2] = width * (-float(center[0]) / side + 0.5)
    matrix[1, 2] = height * (-float(center[1]) / side + 0.5)
    matrix[2, 2] = 1
    if rotation_deg == 0:
        return matrix
    angle = -rotation_deg * np.pi / 180
    sine, cosine = np.sin(angle), np.cos(angle)
    rotation = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    to_center = np.eye(3)
    to_center[0, 2] = -width / 2
    to_center[1, 2] = -height / 2
    back = to_center.copy()
    back[:2, 2] *= -1
    return np.dot(back, np.dot(rotation, np.dot(to_center, matrix)))


def transform_points(
    points: Float[np.ndarray, "N 2"],
    matrix: Float[np.ndarray, "3 3"],
) -> Int[np.ndarray, "N 2"]:
    """METRO's integer mapping of 1-based points: minus 1, matrix, truncate towards zero, plus 1."""
    x, y = points[:, 0] - 1, points[:, 1] - 1
    mapped = np.stack(
        [
            matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2],
            matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2],
        ],
        axis=1,
    )
    return mapped.astype(np.int64) + 1


def crop_window(center: Sequence[float], scale: float, size: int) -> Window:
    """The window of the image that METRO cuts out for a `size` x `size` crop (before rotation
    padding).

    Raises:
        DataError: the box is degenerate or smaller than one pixel.
    """
    check_box(center, scale)
    # The inverse of `point_matrix`, element by element as a general matrix inverse computes it.
    zoom = 1.0 / (float(size) / (PIXELS_PER_SCALE * scale))
    (left, right), (top, bottom) = (
        _edges(float(value), PIXELS_PER_SCALE * scale, size, zoom) for value in center
    )
    window = Window(left, top, right, bottom)
    if window.width < 1 or window.height < 1:
        raise DataError(
            f"box of scale {scale} at {tuple(center)} covers less than one pixel; "
            "expected a box side (200 px x scale) of several pixels"
        )
    return window


def _edges(center: float, side: float, size: int, zoom: float) -> tuple[int, int]:
    """First pixel and first pixel behind a window on one axis, truncated towards zero."""
    first = -(size * (-center / side + 0.5)) * zoom
    return int(first), int(zoom * size + first)


def rotation_padding(window: Window) -> int:
    """Pixels added on each side of a window before rotation: (diagonal - side) / 2, truncated."""
    diagonal = math.sqrt(window.width**2 + window.height**2)
    return int(diagonal / 2 - float(window.height) / 2)


def crop_coordinates(
    points: Float[np.ndarray, "N 2"], window: Window, size: int, rotation_deg: float = 0.0
) -> Float[np.ndarray, "N 2"]:
    """Where image points land in the crop, exactly (no truncation).

    Args:
        points: image pixels; (0, 0) is the centre of the first pixel.
        window: from `crop_window`.
        size: side of the crop, pixels.
        rotation_deg: in-plane rotation of the crop, degrees.

    Returns:
        [-1, 1] across the crop, x right, y down; -1 is the outer edge of the first pixel.
    """
    extent = np.array([window.width, window.height], dtype=np.float64)
    offset = points - (np.array([window.left, window.top]) + (extent - 1) / 2)
    angle = -np.deg2rad(rotation_deg)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return 2.0 * (offset @ rotation.T) / extent
