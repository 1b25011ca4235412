"""Images from strangers: the header is read before anything is decoded.

A file of a few kilobytes can announce gigabytes of pixels. So type and size are taken from its
header, checked against the limits, and only then does a decoder see the file.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8

from metro_ray.data.transform import decode_image
from metro_ray.errors import DataError
from metro_ray.serve.problems import ApiError
from metro_ray.serve.schema import ErrorCode

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
MAX_ASPECT = 50
"""Longer side over shorter; METRO's rule without a box scales the shorter side to 224 pixels."""
_MAX_PNG_CHUNKS = 10_000
"""An image of 16 MiB has some 2,000, if they are as short as libpng writes them."""


class Header(NamedTuple):
    """What an image file says about itself."""

    kind: str
    """jpeg, png or webp."""
    width: int
    height: int
    """As stored; EXIF may swap the two."""


def read_header(data: bytes) -> Header:
    """Type and size of an image file.

    Raises:
        ApiError: neither JPEG, PNG nor WebP, or its header is broken.
    """
    try:
        if data.startswith(_JPEG):
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            header = Header("jpeg", int(width), int(height))
        elif data.startswith(_PNG):
            header = Header("png", *_png_size(data))
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            header = Header("webp", *_webp_size(data))
        else:
            raise ApiError(
                ErrorCode.BAD_IMAGE,
                f"the image is neither JPEG, PNG nor WebP (it has {len(data)} bytes and begins "
                f"with {data[:8].hex(' ') or 'nothing'}); convert it to one of them",
            )
    except (ValueError, IndexError, struct.error) as error:
        raise ApiError(
            ErrorCode.BAD_IMAGE, f"the image's header is broken: {error}; send the whole file"
        ) from error
    if header.width < 1 or header.height < 1:
        raise ApiError(ErrorCode.BAD_IMAGE, "the image has no pixels; send another")
    return header


def open_image(data: bytes, max_pixels: int) -> UInt8[np.ndarray, "H W 3"]:
    """Decode an image to RGB, EXIF orientation applied.

    Args:
        data: the file.
        max_pixels: more are refused before they are decoded, which is what is left of a request's.

    Raises:
        ApiError: no image, too many pixels, or a shape that cannot be cropped.
    """
    kind, width, height = read_header(data)
    if width * height > max_pixels:
        raise ApiError(
            ErrorCode.TOO_MANY_PIXELS,
            f"the image has {width} x {height} pixels, {max_pixels} are accepted here: scale it "
            "down (the network sees 224 x 224 of each person), or send fewer images at once",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ApiError(
            ErrorCode.BAD_IMAGE,
            f"the image is {width} x {height}; its longer side must be at most {MAX_ASPECT} times "
            "its shorter side: cut it",
        )
    try:
        return cv2.cvtColor(decode_image(data), cv2.COLOR_BGR2RGB)  # pyright: ignore[reportReturnType]
    except DataError as error:
        raise ApiError(ErrorCode.BAD_IMAGE, f"the {kind.upper()} is broken: {error}") from error


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise ValueError("a PNG without IHDR")
    _check_png_chunks(data)
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _check_png_chunks(data: bytes) -> None:
    """Refuse chunks that say they are longer than the file: decoders make room before they read."""
    place = len(_PNG)
    for _ in range(_MAX_PNG_CHUNKS):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        place += length + 12
        if place > len(data):
            raise ValueError(f"the PNG's chunk {kind!r} of {length} bytes ends behind the file")
        if kind == b"IEND":
            return
    raise ValueError(f"the PNG has more than {_MAX_PNG_CHUNKS} chunks")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Of the canvas; VP8X is the extended, VP8L the lossless, VP8 the simple format."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return _uint24(data, 24) + 1, _uint24(data, 27) + 1
    if chunk == b"VP8L":
        if data[20] != 0x2F:
            raise ValueError("a lossless WebP without its signature")
        (bits,) = struct.unpack("<I", data[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            raise ValueError("a WebP without its start code")
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError(f"a WebP that begins with the chunk {chunk!r}")


def _uint24(data: bytes, place: int) -> int:
    if len(data) < place + 3:
        raise ValueError("a WebP that ends in its header")
    return int.from_bytes(data[place : place + 3], "little")
