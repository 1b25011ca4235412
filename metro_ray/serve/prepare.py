"""Image files to crops for the network, and what it says back into the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from metro_ray.bodies.spec import get_spec
from metro_ray.errors import DataError
from metro_ray.geometry.boxes import PIXELS_PER_SCALE
from metro_ray.geometry.cameras import Intrinsics
from metro_ray.inference.camera import CameraSource
from metro_ray.inference.cutouts import Hand, cut_out, require_overlap
from metro_ray.inference.inputs import Person
from metro_ray.inference.people import Placed, Subject
from metro_ray.inference.result import MeshArrays, mirrored, turned
from metro_ray.serve.images import open_image
from metro_ray.serve.network import Mesh
from metro_ray.serve.problems import ApiError
from metro_ray.serve.requests import Wanted, WantedImage
from metro_ray.serve.schema import ErrorCode, Format, Task

MAX_DRAWN_PIXELS = 16_000_000
"""Of an image that overlays and depth are drawn for; rays are cast on the CPU."""
_MAX_BOX = 4
"""Side of a person's square over the longer side of the image; larger ones show next to nothing of
the image, and cost memory."""


class OpenImage(NamedTuple):
    """An image and the people cut out of it."""

    width: int
    height: int
    """As it is shown, pixels."""
    subjects: tuple[Subject, ...]
    camera: CameraSource
    pixels: UInt8[np.ndarray, "H W 3"] | None
    """RGB, where the answer shows them: a decoded image is large, and waits with its request."""

    @property
    def intrinsics(self) -> Intrinsics:
        """Given or assumed."""
        return self.camera.for_picture(self.width, self.height)


def open_images(wanted: Wanted, task: Task, side: int, max_pixels: int) -> list[OpenImage]:
    """Decode and cut; for a thread.

    Args:
        wanted: by a request.
        task: decides what hands mean.
        side: of the crops, pixels.
        max_pixels: of all images together.

    Raises:
        ApiError: an image or a box that cannot be used; says which.
    """
    several = len(wanted.images) > 1
    opened: list[OpenImage] = []
    for number, image in enumerate(wanted.images):
        try:
            pixels = open_image(image.data, max_pixels)
            opened.append(cut_people(pixels, image, task, side, kind=wanted.format))
        except ApiError as error:
            if not several:
                raise
            raise ApiError(error.code, f"images.{number}: {error.message}") from error
        max_pixels -= opened[-1].width * opened[-1].height
    return opened


def stack_crops(images: Sequence[OpenImage]) -> UInt8[np.ndarray, "N 3 S S"]:
    """The crops of all people, image after image."""
    return np.stack([s.cutout.pixels for image in images for s in image.subjects])


def place_people(images: Sequence[OpenImage], arrays: MeshArrays, mesh: Mesh) -> list[list[Placed]]:
    """The predicted people of each image, in its frame.

    Args:
        images: as cut.
        arrays: one row for each crop; vertices may be missing.
        mesh: surface of the vertices.

    Raises:
        ApiError: a prediction that is not finite.
    """
    joint_set = get_spec(mesh.body_model).joints
    turned_faces = turned(mesh.faces)
    number = 0
    placed: list[list[Placed]] = []
    for image in images:
        people: list[Placed] = []
        for subject in image.subjects:
            result = arrays.result(number, subject.cutout.window, mesh.faces, joint_set)
            if subject.cutout.mirror_width is not None:
                result = mirrored(result, subject.cutout.mirror_width, turned_faces)
            number += 1
            try:
                people.append(subject.place(result, image.intrinsics))
            except DataError as error:
                raise ApiError(ErrorCode.INTERNAL, str(error)) from error
        placed.append(people)
    return placed


def cut_people(
    pixels: UInt8[np.ndarray, "H W 3"],
    image: WantedImage,
    task: Task,
    side: int,
    *,
    kind: Format,
) -> OpenImage:
    """The people of a decoded image.

    Args:
        pixels: RGB.
        image: whom to look for; its data is not used.
        task: decides what hands mean.
        side: of the crops, pixels.
        kind: of the answer; an image that it does not show is let go.

    Raises:
        ApiError: a box that cannot be used; says which. Or the image is too large to be drawn on.
    """
    height, width = pixels.shape[:2]
    if kind in ("png", "depth") and width * height > MAX_DRAWN_PIXELS:
        raise ApiError(
            ErrorCode.TOO_MANY_PIXELS,
            f"the image has {width} x {height} pixels; overlays and depth are drawn for up to "
            f"{MAX_DRAWN_PIXELS}: scale it down, or ask for json, npz or a mesh",
        )
    subjects = tuple(
        _cut(pixels, person, image.hand, task, side, f"box {number}")
        for number, person in enumerate(image.people)
    )
    return OpenImage(width, height, subjects, image.camera, pixels if kind == "png" else None)


def _cut(
    pixels: UInt8[np.ndarray, "H W 3"],
    person: Person,
    hand: Hand | None,
    task: Task,
    side: int,
    where: str,
) -> Subject:
    height, width = pixels.shape[:2]
    box = person.box
    try:
        if box is not None and box.scale * PIXELS_PER_SCALE > _MAX_BOX * max(width, height):
            raise DataError(
                f"its square is more than {_MAX_BOX} times the longer side of the image of "
                f"{width} x {height} px"
            )
        cutout = cut_out(pixels, box, side, mirror=hand == "left")
        require_overlap(cutout.window, width, height)
    except DataError as error:
        raise ApiError(ErrorCode.BAD_REQUEST, f"{where}: {error}") from error
    shown: Hand | None = (hand or "right") if task == "hand" else None
    return Subject(where, person, shown, cutout)
