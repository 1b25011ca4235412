"""Bake person-centred crops: store only what training can ever look at.

A photograph of 1000 x 1000 px is decoded whole for a crop of 224 x 224 px around one person. A
baked row holds the part of it that the largest augmented box, turned by any angle, can reach, not
larger than a chosen resolution; what lies outside the image stays outside. Labels are in the new
pixels, so baked rows are ordinary rows.

What it changes: pictures are encoded once more (JPEG, quality 95), and large ones are reduced with
area averaging beforehand, so crops lack the aliasing of METRO's reduction from full size. Where the
part fits the resolution it is cut and not resampled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np

from metro_ray.data.rows import Row
from metro_ray.data.transform import decode_image
from metro_ray.errors import DataError
from metro_ray.geometry.boxes import PIXELS_PER_SCALE, check_box

JPEG_QUALITY = 95
_SPARE_PX = 4
"""Around the reach: windows are truncated to whole pixels, interpolation reads neighbours."""


class BakeSettings(NamedTuple):
    """How rows are baked."""

    size: int = 512
    """Longest side of a baked picture, pixels. The box gets size / 1.77 of it: 289 px of 512."""
    max_scale_factor: float = 1.25
    """Largest factor by which augmentation grows the box (METRO: 1.25)."""
    rotation: bool = True
    """Whether augmentation turns the picture: the corners of the box then reach further."""

    @property
    def reach(self) -> float:
        """Side of the part that is kept, in sides of the label's box."""
        return self.max_scale_factor * (math.sqrt(2.0) if self.rotation else 1.0)


def bake_row(row: Row, settings: BakeSettings) -> Row:
    """The row with its picture cut to what training can reach, and its label moved along.

    Raises:
        DataError: the picture cannot be decoded, or the box is degenerate.
    """
    label = dict(row.label)
    try:
        image = decode_image(row.image_bytes)
        center = np.asarray(label["center"], np.float64)
        scale = float(label["scale"])
        check_box(center.tolist(), scale)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{row.where} ({row.key}): cannot be cropped: {error}") from error
    height, width = image.shape[:2]
    reach = settings.reach * PIXELS_PER_SCALE * scale
    left, top = (np.floor(center - reach / 2).astype(int) - _SPARE_PX).tolist()
    right, bottom = (np.ceil(center + reach / 2).astype(int) + _SPARE_PX).tolist()
    left, top = max(0, left), max(0, top)
    right, bottom = min(width, right), min(height, bottom)
    if right <= left or bottom <= top:  # the box is outside: there is nothing to see
        left, top, right, bottom = 0, 0, min(width, 2), min(height, 2)
    part = image[top:bottom, left:right]
    factor = min(1.0, settings.size / max(part.shape[:2]))
    if factor < 1.0:
        size = [max(1, round(side * factor)) for side in (part.shape[1], part.shape[0])]
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    move = _Move(np.array([left, top], np.float64), factor)
    encoded = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    return row._replace(
        image_bytes=encoded,
        label={**label, **_moved(label, center, scale, move)},
        hw=(part.shape[0], part.shape[1]),
    )


class _Move(NamedTuple):
    """Image pixels -> pixels of the baked picture."""

    corner: np.ndarray
    factor: float

    def edges(self, points: np.ndarray) -> np.ndarray:
        """Points counted from the outer edge of the first pixel, as METRO counts box centres."""
        return (points - self.corner) * self.factor

    def centers(self, points: np.ndarray) -> np.ndarray:
        """Points counted from the centre of the first pixel, as joints are."""
        return (points + 0.5 - self.corner) * self.factor - 0.5


def _moved(
    label: Mapping[str, Any], center: np.ndarray, scale: float, move: _Move
) -> dict[str, Any]:
    """The fields of a label that are in pixels; joints that are no array stay as they are."""
    moved: dict[str, Any] = {
        "center": move.edges(center).tolist(),
        "scale": scale * move.factor,
    }
    try:
        joints = np.asarray(label.get("2d_joints"), np.float64)
    except (ValueError, TypeError):
        return moved
    if joints.ndim >= 2 and joints.shape[-1] == 3:
        joints = joints.copy()
        joints[..., :2] = move.centers(joints[..., :2])
        moved["2d_joints"] = joints.tolist()
    return moved
