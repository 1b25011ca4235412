"""What the clients send. Nothing here opens a connection, so both clients share it."""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from metro_ray.errors import DataError
from metro_ray.serve.schema import (
    MEDIA_TYPES,
    MODEL_VERSION,
    Format,
    HandSide,
    Origin,
    Task,
)

Image = str | Path | bytes | UInt8[np.ndarray, "H W 3"]
"""A file, its content, or RGB pixels (sent as PNG)."""
Box = Sequence[float]
"""x0, y0, x1, y1 in pixels of the image."""

_MAGIC = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG", "image/png"))


@dataclass(frozen=True, slots=True)
class Call:
    """One request, which can be sent as often as needed."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    files: Sequence[Path] = ()
    """To be sent as a form with `params` as its fields."""
    is_idempotent: bool = True
    """Whether the server may get it twice; else it is sent again only where it surely did not."""


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What holds for all images of a request."""

    hand_side: HandSide | None = None
    focal_length: float | None = None
    intrinsics: Sequence[float] | None = None
    origin: Origin = "camera"
    model_version: str | None = None


def predict_call(
    task: Task,
    images: Sequence[Image],
    boxes: Sequence[Sequence[Box] | None],
    format: Format,
    options: PredictOptions,
) -> Call:
    """Ask for the people of images: one image as it is, several as JSON.

    Raises:
        DataError: no image, one that cannot be read, or another number of boxes.
    """
    if not images:
        raise DataError("no image to predict was given")
    if len(boxes) != len(images):
        raise DataError(
            f"got boxes for {len(boxes)} images, but {len(images)} images: give one list of boxes "
            "for each image, or None in its place"
        )
    headers = {"Accept": MEDIA_TYPES[format]}
    if options.model_version is not None:
        headers[MODEL_VERSION] = options.model_version
    query = {"format": format, "origin": options.origin}
    if len(images) > 1:
        content = json.dumps(
            {
                "images": [_image_json(i, b, options) for i, b in zip(images, boxes)],
                **query,
            }
        )
        headers["Content-Type"] = "application/json"
        return Call("POST", f"v1/{task}", headers=headers, content=content.encode())
    data = image_bytes(images[0])
    headers["Content-Type"] = media_type(data)
    if boxes[0]:
        query["boxes"] = ";".join(_numbers(box) for box in boxes[0])
    return Call("POST", f"v1/{task}", query | _fields(options), headers, data)


def job_call(
    task: Task, files: Sequence[str | Path], format: Format, options: PredictOptions
) -> Call:
    """Ask for a job over image files or one video.

    Raises:
        DataError: a file is not there, or a version is insisted on.
    """
    paths = [Path(file) for file in files]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} does not exist; expected an image or a video")
    if options.model_version is not None:
        raise DataError("a job cannot insist on a version: leave model_version out")
    fields = {"task": task, "format": format, "origin": options.origin} | _fields(options)
    return Call("POST", "v1/jobs", fields, files=paths, is_idempotent=False)


def image_bytes(image: Image) -> bytes:
    """The file to send.

    Raises:
        DataError: it is not there, or the array is no RGB image.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        path = Path(image)
        if not path.is_file():
            raise DataError(f"{path} does not exist; expected an image")
        return path.read_bytes()
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(
            f"got an array of {image.dtype} with shape {image.shape}; expected RGB pixels, uint8 "
            "of shape (height, width, 3)"
        )
    import cv2

    done, encoded = cv2.imencode(".png", image[:, :, ::-1])
    assert done, "OpenCV encodes every uint8 image"
    return encoded.tobytes()


def media_type(data: bytes) -> str:
    """What a file says it is; what it is not known is left to the server to refuse."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return "image/webp" if is_webp else "application/octet-stream"


def form_files(paths: Sequence[Path]) -> list[tuple[str, tuple[str, Any, str]]]:
    """Open files for a form; the sender closes them."""
    kinds = (mimetypes.guess_type(path.name)[0] for path in paths)
    return [
        ("files", (path.name, path.open("rb"), kind or "application/octet-stream"))
        for path, kind in zip(paths, kinds)
    ]


def _image_json(
    image: Image, boxes: Sequence[Box] | None, options: PredictOptions
) -> dict[str, Any]:
    record: dict[str, Any] = {"data": base64.b64encode(image_bytes(image)).decode("ascii")}
    if boxes:
        record["boxes"] = [[float(number) for number in box] for box in boxes]
    if options.hand_side is not None:
        record["hand_side"] = options.hand_side
    if options.focal_length is not None:
        record["focal_length"] = float(options.focal_length)
    if options.intrinsics is not None:
        record["intrinsics"] = [float(number) for number in options.intrinsics]
    return record


def _fields(options: PredictOptions) -> dict[str, str]:
    """As parameters of a query or fields of a form, without those that were left out."""
    fields: dict[str, str] = {}
    if options.hand_side is not None:
        fields["hand_side"] = options.hand_side
    if options.focal_length is not None:
        fields["focal_length"] = repr(float(options.focal_length))
    if options.intrinsics is not None:
        fields["intrinsics"] = _numbers(options.intrinsics)
    return fields


def _numbers(values: Sequence[float]) -> str:
    return ",".join(repr(float(value)) for value in values)
