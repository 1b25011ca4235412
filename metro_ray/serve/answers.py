"""Predicted people in the format that the client asked for."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import msgspec
import numpy as np
from jaxtyping import Float

from metro_ray.bodies.spec import get_spec
from metro_ray.geometry.boxes import Window
from metro_ray.geometry.cameras import Intrinsics
from metro_ray.inference.depth import depth_map
from metro_ray.inference.export import people_file
from metro_ray.inference.people import Placed, draw
from metro_ray.serve.engine import Reply
from metro_ray.serve.network import Card
from metro_ray.serve.prepare import OpenImage
from metro_ray.serve.problems import ApiError
from metro_ray.serve.requests import Wanted
from metro_ray.serve.schema import ErrorCode

_DIGITS_M, _DIGITS_PX, _DIGITS_AFFINE = 6, 3, 9
People = Sequence[Sequence[Placed]]
"""Of each image."""


def encode(
    wanted: Wanted,
    images: Sequence[OpenImage],
    people: People,
    reply: Reply,
    timings_ms: Callable[[], dict[str, float]],
) -> bytes:
    """The body of the answer; for a thread.

    Args:
        wanted: decides the format.
        images: as opened.
        people: of each image.
        reply: of the engine.
        timings_ms: for JSON, asked when all else is done.

    Raises:
        ApiError: the people cannot be shown in this format; says what can.
    """
    kind = wanted.format
    if kind == "json":
        return _json(wanted, images, people, reply, timings_ms)
    if kind == "npz":
        return _npz(images, people, reply)
    image, placed = images[0], people[0]
    if kind in ("png", "depth"):
        return _overlay(image, placed) if kind == "png" else _depth(image, placed)
    return people_file([p.result for p in placed], _origins(placed, wanted), kind)


def answered_by(card: Card) -> dict[str, str]:
    """`AnsweredBy` of the schema."""
    return {
        "name": card.name,
        "version": card.version,
        "body_model": card.body_model,
        "checkpoint": card.checkpoint,
    }


def crop_to_image(window: Window, side: int) -> Float[np.ndarray, "2 3"]:
    """Affine map from pixels of the crop to pixels of its image, centres at integers."""
    x, y = window.width / side, window.height / side
    return np.array(
        [
            [x, 0.0, window.left - 0.5 + 0.5 * x],
            [0.0, y, window.top - 0.5 + 0.5 * y],
        ]
    )


def _json(
    wanted: Wanted,
    images: Sequence[OpenImage],
    people: People,
    reply: Reply,
    timings_ms: Callable[[], dict[str, float]],
) -> bytes:
    side = reply.card.input_size
    answer = {
        "model": answered_by(reply.card),
        "images": [
            {
                "width": image.width,
                "height": image.height,
                "people": [_person(p, image, side, wanted.vertices) for p in placed],
            }
            for image, placed in zip(images, people, strict=True)
        ],
    }
    start = msgspec.json.encode(answer)
    times = {name: round(value, 2) for name, value in timings_ms().items()}
    return start[:-1] + b',"timings_ms":' + msgspec.json.encode(times) + b"}"


def _person(placed: Placed, image: OpenImage, side: int, vertices: bool) -> dict[str, Any]:
    result = placed.result
    scale, tx, ty = (float(value) for value in result.camera)
    record = {
        "box": _corners(placed),
        "hand_side": placed.hand,
        "camera": {"scale": scale, "translation": [tx, ty]},
        "camera_full": _full_camera(placed, image),
        "crop_to_image": _rounded(crop_to_image(result.window, side), _DIGITS_AFFINE),
        "joint_names": list(result.joint_set.names),
        "joints": _rounded(result.joints, _DIGITS_M),
        "joints_2d": _rounded(result.joints_px[:, :2], _DIGITS_PX),
        "vertices": None,
    }
    if vertices:
        record["vertices"] = _rounded(result.vertices, _DIGITS_M)
    return record


def _full_camera(placed: Placed, image: OpenImage) -> dict[str, Any]:
    intrinsics = image.intrinsics
    return {
        "focal_length": intrinsics.focal_px[0],
        "principal_point": list(intrinsics.principal_point_px),
        "intrinsics": _four(intrinsics),
        "translation": None if placed.translation is None else _rounded(placed.translation, 6),
        "assumed": image.camera.intrinsics is None,
    }


def _npz(images: Sequence[OpenImage], people: People, reply: Reply) -> bytes:
    """One row for each person; see docs/serving.md for the arrays.

    Not compressed: that takes half as long as a small network, and saves little of a mesh.
    """
    rows = [
        (i, image, p) for i, (image, ps) in enumerate(zip(images, people, strict=True)) for p in ps
    ]
    nowhere = np.full(3, np.nan)
    arrays: dict[str, np.ndarray] = {
        "image": np.array([i for i, _, _ in rows], np.int32),
        "image_size": np.array([(im.width, im.height) for im in images], np.int32),
        "box": np.array([_corners(p) for _, _, p in rows], np.float32),
        "hand_left": np.array([p.hand == "left" for _, _, p in rows]),
        "camera": np.stack([p.result.camera for _, _, p in rows]),
        "intrinsics": np.array([_four(im.intrinsics) for _, im, _ in rows]),
        "translation": np.stack(
            [nowhere if p.translation is None else p.translation for _, _, p in rows]
        ),
        "crop_to_image": np.stack(
            [crop_to_image(p.result.window, reply.card.input_size) for _, _, p in rows]
        ),
        "vertices": np.stack([p.result.vertices for _, _, p in rows]),
        "joints": np.stack([p.result.joints for _, _, p in rows]),
        "joints_2d": np.stack([p.result.joints_px[:, :2] for _, _, p in rows]),
        "faces": rows[0][2].result.faces,
        "joint_names": np.array(get_spec(reply.card.body_model).joints.names),
        "model_version": np.array(reply.card.version),
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def _origins(placed: Sequence[Placed], wanted: Wanted) -> list[Float[np.ndarray, " 3"] | None]:
    if wanted.origin == "root":
        return [None] * len(placed)
    for number, each in enumerate(placed):
        if each.translation is None:
            raise _nowhere(number, each, "origin=root gives the meshes without their place")
    return [each.translation for each in placed]


def _overlay(image: OpenImage, placed: Sequence[Placed]) -> bytes:
    assert image.pixels is not None, "images of an overlay are kept"
    return _png(draw(image.pixels, placed)[:, :, ::-1])


def _depth(image: OpenImage, placed: Sequence[Placed]) -> bytes:
    """A zip: depth.png in millimetres (16 bit, 0: nobody), mask.png (number of the person + 1)."""
    depths: list[float] = []
    for number, each in enumerate(placed):
        if each.translation is None:
            raise _nowhere(number, each, "format=png and format=json show what there is")
        depths.append(float(each.translation[2]))
    depth, owner = depth_map([p.result for p in placed], depths, image.width, image.height)
    millimetres = np.where(owner >= 0, np.clip(np.rint(1e3 * depth), 1, 65535), 0)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("depth.png", _png(millimetres.astype(np.uint16)))
        archive.writestr("mask.png", _png((owner + 1).astype(np.uint8)))
    return buffer.getvalue()


def _nowhere(number: int, placed: Placed, instead: str) -> ApiError:
    return ApiError(
        ErrorCode.BAD_REQUEST,
        f"person {number}: the predicted camera (s, tx, ty) = {placed.result.camera.tolist()} has "
        "no place in front of the image (s must be above 0): the network sees nobody in this box; "
        f"{instead}",
    )


def _png(image: np.ndarray) -> bytes:
    done, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert done, "OpenCV encodes every uint8 and uint16 picture"
    return encoded.tobytes()


def _corners(placed: Placed) -> list[float]:
    """The box as given; without one, what the network looked at."""
    rectangle = placed.person.rectangle
    if rectangle is None:
        return [float(edge) for edge in placed.result.window]
    x, y, width, height = rectangle
    return [x, y, x + width, y + height]


def _four(intrinsics: Intrinsics) -> list[float]:
    return [*intrinsics.focal_px, *intrinsics.principal_point_px]


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    return np.round(np.asarray(values, np.float64), digits).tolist()
