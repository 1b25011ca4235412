"""Look at one stored picture: its format and size, and what may be wrong with it."""

from __future__ import annotations

import io
import struct
import warnings
from typing import NamedTuple

import numpy as np

from metro_ray.data.check_rules import RULES, Problem
from metro_ray.data.transform import decode_image
from metro_ray.errors import DataError

_UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: "mirrored",
    3: "half a turn",
    4: "upside down, mirrored",
    5: "a quarter turn, mirrored",
    6: "a quarter turn clockwise",
    7: "a quarter turn, mirrored",
    8: "a quarter turn counter-clockwise",
}
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}
_LOOKED_AT = 32
"""Lines and columns of a picture that are looked at for colour."""
_SAME = 2
"""Grey levels that compression makes of equal ones."""


class ImageFacts(NamedTuple):
    """What is known of a picture."""

    format: str
    """`JPEG`, `PNG`, ... or `unknown`."""
    size: tuple[int, int] | None
    """Height and width as training reads it (after EXIF orientation); None: unreadable."""
    problems: list[Problem]


class _Header(NamedTuple):
    format: str
    orientation: int


def inspect_image(data: bytes, hw: tuple[int, int] | None) -> ImageFacts:
    """Decode a picture as training does, and compare it with what the size file says."""
    header = _read_header(data)
    try:
        image = decode_image(data)
    except DataError as error:
        code = "image-cut" if _is_cut(data) else "image-broken"
        reason = str(error).removeprefix(f"{RULES['image-broken'].what}: ")
        return ImageFacts(header.format, None, [Problem(code, reason)])
    problems: list[Problem] = []
    if _is_cut(data):
        problems.append(Problem("image-cut", f"{len(data)} bytes of {header.format}, no end mark"))
    size = (image.shape[0], image.shape[1])
    if hw is not None and size != tuple(hw):
        problems.append(Problem("image-size", _other_size(size, hw)))
    if header.orientation != _UPRIGHT:
        turn = _TURNS.get(header.orientation, "no known turn")
        problems.append(Problem("image-turned", f"orientation {header.orientation}: {turn}"))
    return ImageFacts(header.format, size, problems + _colour(image))


def _read_header(data: bytes) -> _Header:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd is found below, in words
            with Image.open(io.BytesIO(data)) as picture:
                orientation = picture.getexif().get(_ORIENTATION_TAG, _UPRIGHT)
                return _Header(picture.format or "unknown", int(orientation))
    except (OSError, ValueError, TypeError, SyntaxError, struct.error):
        return _Header("unknown", _UPRIGHT)
    except Image.DecompressionBombError:
        return _Header("too large", _UPRIGHT)


def _is_cut(data: bytes) -> bool:
    ends = [end for start, end in _ENDS.items() if data.startswith(start)]
    return bool(ends) and data.rfind(ends[0]) < 0


def _other_size(size: tuple[int, int], hw: tuple[int, int]) -> str:
    swapped = "; height and width are swapped" if size == (hw[1], hw[0]) else ""
    return f"{_shown(size)}, the size file says {_shown(hw)}{swapped}"


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _colour(image: np.ndarray) -> list[Problem]:
    """Grey or blank, judged on a grid of pixels."""
    steps = [max(1, side // _LOOKED_AT) for side in image.shape[:2]]
    pixels = image[:: steps[0], :: steps[1]].astype(np.int16)
    blue, green, red = (pixels[:, :, channel] for channel in range(3))
    if max(np.abs(blue - green).max(), np.abs(green - red).max()) > _SAME:
        if max(np.ptp(channel) for channel in (blue, green, red)) > _SAME:
            return []
    elif np.ptp(green) > _SAME:
        return [Problem("image-grey", "red, green and blue are the same")]
    shown = f"({red[0, 0]}, {green[0, 0]}, {blue[0, 0]})"
    return [Problem("image-blank", f"all pixels are about {shown}")]
