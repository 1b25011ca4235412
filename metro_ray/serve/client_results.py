"""What the client gives back: people as arrays, read from the server's NPZ."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int32

from metro_ray.errors import RequestError
from metro_ray.serve.schema import HandSide


@dataclass(frozen=True, slots=True, eq=False)
class FoundPerson:
    """A person or hand, as the server's network sees it.

    3D in metres relative to the root, x right, y down, z away from the camera; 2D in pixels of the
    original image, the centre of the upper left pixel being (0, 0).
    """

    box: Float[np.ndarray, " 4"]
    """x0, y0, x1, y1, pixels: as given, else the part of the image that was looked at."""
    hand_side: HandSide | None
    """None for bodies."""
    vertices: Float[np.ndarray, "V 3"]
    faces: Int32[np.ndarray, "F 3"]
    """Triangles of `vertices`, counter-clockwise from outside; shared by the people of an answer
    (left hands have their own)."""
    joints: Float[np.ndarray, "J 3"]
    joints_2d: Float[np.ndarray, "J 2"]
    joint_names: tuple[str, ...]
    camera: Float[np.ndarray, " 3"]
    """(s, tx, ty) of the crop: a vertex appears at s * (xy + t) in [-1, 1]."""
    intrinsics: Float[np.ndarray, " 4"]
    """fx, fy, cx, cy of the image's camera, pixels."""
    translation: Float[np.ndarray, " 3"] | None
    """Of the root from that camera, metres; None where the network sees nobody that could stand
    before it."""
    crop_to_image: Float[np.ndarray, "2 3"]
    """From pixels of the network's crop to pixels of the image."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundImage:
    """An image and who was found in it."""

    width: int
    height: int
    people: tuple[FoundPerson, ...]
    model_version: str
    request_id: str


def read_npz(data: bytes, kind: str, request_id: str) -> list[FoundImage]:
    """The images of an answer.

    Args:
        data: NPZ as docs/serving.md describes it.
        kind: `body` or `hand`.
        request_id: of the answer.

    Raises:
        RequestError: this is no such file; the answer is broken or from another version.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        names = tuple(str(name) for name in arrays["joint_names"])
        turned = np.ascontiguousarray(arrays["faces"][:, ::-1])
        first_is_left = bool(arrays["hand_left"][0])
        people = [
            _person(arrays, row, kind, names, arrays["faces"], turned, first_is_left)
            for row in range(len(arrays["image"]))
        ]
        return [
            FoundImage(
                width=int(width),
                height=int(height),
                people=tuple(p for p, at in zip(people, arrays["image"]) if at == number),
                model_version=str(arrays["model_version"]),
                request_id=request_id,
            )
            for number, (width, height) in enumerate(arrays["image_size"])
        ]
    except (KeyError, ValueError, IndexError, zipfile.BadZipFile, EOFError) as error:
        raise RequestError(
            f"the answer of {len(data)} bytes is not the NPZ that this client expects ({error}): "
            "something between changed it, or the server is of another version",
            code="bad_answer",
            request_id=request_id,
        ) from error


def _person(
    arrays: dict[str, np.ndarray],
    row: int,
    kind: str,
    names: tuple[str, ...],
    faces: np.ndarray,
    turned: np.ndarray,
    first_is_left: bool,
) -> FoundPerson:
    is_left = bool(arrays["hand_left"][row])
    side: HandSide | None = None
    if kind == "hand":
        side = "left" if is_left else "right"
    translation = arrays["translation"][row]
    return FoundPerson(
        box=arrays["box"][row],
        hand_side=side,
        vertices=arrays["vertices"][row],
        faces=faces if is_left == first_is_left else turned,
        joints=arrays["joints"][row],
        joints_2d=arrays["joints_2d"][row],
        joint_names=names,
        camera=arrays["camera"][row],
        intrinsics=arrays["intrinsics"][row],
        translation=translation if np.isfinite(translation).all() else None,
        crop_to_image=arrays["crop_to_image"][row],
    )
