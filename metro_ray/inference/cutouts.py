"""What the network sees of a picture: the crop of a box, or the middle of the picture.

Left hands are shown to a network of right hands in a mirror: picture and box are mirrored, and what
it finds is mirrored back (`result.mirrored`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from metro_ray.errors import DataError
from metro_ray.geometry.boxes import Box, Window, crop_window
from metro_ray.geometry.crop import crop_fast

Hand = Literal["left", "right"]


class Cutout(NamedTuple):
    """A crop ready for the network."""

    pixels: UInt8[np.ndarray, "3 S S"]
    """RGB planes."""
    window: Window
    """The part of the picture, or of the mirrored picture, that the crop shows."""
    mirror_width: int | None = None
    """Width of the picture where the crop is of the mirrored picture; else None."""


def cut_out(
    image: UInt8[np.ndarray, "H W 3"], box: Box | None, size: int, *, mirror: bool = False
) -> Cutout:
    """The crop of a box, or of the middle of the picture where there is no box.

    Args:
        image: RGB.
        box: around the person or hand; None is METRO's demo, see `middle`.
        size: side of the crop, pixels.
        mirror: cut it out of the mirrored picture, around the mirrored box.

    Raises:
        DataError: not an RGB picture, or a box that is degenerate. (A box beside the picture gives
            a black crop, as in METRO's data; see `require_overlap`.)
    """
    _check_picture(image)
    width = image.shape[1]
    if mirror:
        image = image[:, ::-1].copy()  # one column passes for contiguous, whatever its stride
        box = None if box is None else mirror_box(box, width)
    if box is None:
        crop, window = middle(image, size)
    else:
        window = crop_window(*box, size)
        crop = crop_fast(image, *box, size)
    planes = np.ascontiguousarray(crop.transpose(2, 0, 1))
    return Cutout(planes, window, width if mirror else None)


def require_overlap(window: Window, width: int, height: int) -> None:
    """Refuse a crop that shows nothing of its picture.

    Args:
        window: of the crop.
        width: of the picture, pixels.
        height: of the picture, pixels.

    Raises:
        DataError: says where the crop is.
    """
    if window.right <= 0 or window.bottom <= 0 or window.left >= width or window.top >= height:
        raise DataError(
            f"its square of {window.width} px lies outside the picture of {width} x {height} px; "
            "expected a box in pixels of the picture as it is shown (EXIF orientation applied)"
        )


def middle(
    image: UInt8[np.ndarray, "H W 3"], size: int
) -> tuple[UInt8[np.ndarray, "S S 3"], Window]:
    """METRO's demo: the shorter side resized to `size` (with antialiasing), the middle cut out.

    Returns:
        The crop, and what it shows, to the nearest whole pixel.
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    # METRO's libraries truncate the longer side and round half to even where they cut.
    lines, columns = (size if n == shorter else size * n // shorter for n in (height, width))
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    resized = torch.nn.functional.interpolate(
        planes, (lines, columns), mode="bilinear", antialias=True
    )
    top, left = round((lines - size) / 2), round((columns - size) / 2)
    crop = resized[0, :, top : top + size, left : left + size].permute(1, 2, 0).numpy()
    edges = np.array([left, top, left + size, top + size])
    per_pixel = np.array([width / columns, height / lines] * 2)
    return crop, Window(*np.rint(edges * per_pixel).astype(int).tolist())


def mirror_box(box: Box, width: int) -> Box:
    """Where a box lies in the mirrored picture."""
    x, y = box.center
    return Box((width - x, y), box.scale)


def _check_picture(image: object) -> None:
    shape = getattr(image, "shape", ())
    dtype = getattr(image, "dtype", type(image).__name__)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise DataError(f"expected RGB, uint8, shape (H, W, 3), got {dtype} of shape {shape}")
