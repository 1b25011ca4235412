"""What is written about the people of one picture: JSON, mesh files, overlay.

Numbers in JSON: 3D in metres, relative to the root, x right, y down, z away from the camera; 2D in
pixels of the whole picture, the centre of the upper left pixel being (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from metro_ray.errors import DataError
from metro_ray.geometry.cameras import Intrinsics
from metro_ray.inference.camera import CameraSource, translation
from metro_ray.inference.cutouts import Cutout, Hand, require_overlap
from metro_ray.inference.export import export_attention, export_mesh
from metro_ray.inference.inputs import Boxes, Person, Source, check_people
from metro_ray.inference.predictor import Predictor
from metro_ray.inference.render import overlay_people
from metro_ray.inference.result import MeshResult

JPEG_QUALITY = 92
_DIGITS_M, _DIGITS_PX = 6, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputSettings:
    """What to write for each picture or frame."""

    formats: tuple[str, ...] = ("obj", "glb")
    """Mesh files: obj, ply, glb, npz."""
    origin: Literal["camera", "root"] = "camera"
    """Origin of obj, ply and glb: the camera of the whole picture, or each person's root."""
    camera: CameraSource = field(default_factory=CameraSource)
    overlay: bool = True
    attention: bool = False


class Placed(NamedTuple):
    """A predicted person with its place in the whole picture."""

    person: Person
    hand: Hand | None
    """Which hand was predicted; None for bodies."""
    result: MeshResult
    translation: Float[np.ndarray, " 3"] | None
    """Of the root from the camera, metres; None where the predicted camera has no such place."""
    track: int | None = None
    """Who it is through the frames of a video."""


class Subject(NamedTuple):
    """A person to predict."""

    where: str
    """What messages call it: file, frame, number of the box."""
    person: Person
    hand: Hand | None
    """Which hand it is; None for bodies."""
    cutout: Cutout

    def place(self, result: MeshResult, intrinsics: Intrinsics) -> Placed:
        """Put a result into the whole picture.

        Raises:
            DataError: the prediction is not finite.
        """
        if not (np.isfinite(result.vertices).all() and np.isfinite(result.camera).all()):
            raise DataError(
                f"{self.where}: the prediction is not finite; the checkpoint is damaged, or half "
                "precision does not suffice: try --precision fp32"
            )
        return Placed(self.person, self.hand, result, translation(result, intrinsics))


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Whom to predict, with what, and what to write about them."""

    predictor: Predictor
    boxes: Boxes
    hand: Hand | None = None
    """Which hand it is where the boxes do not say; None is the right one."""
    settings: OutputSettings = OutputSettings()

    def __post_init__(self) -> None:
        """Refuse hands of a network of bodies.

        Raises:
            DataError: says which network it is.
        """
        spec = self.predictor.body.spec
        if self.hand is not None and spec.kind != "hand":
            raise DataError(
                f"a {self.hand} hand is asked for, but the checkpoint predicts bodies "
                f"({spec.name}): give a checkpoint of hands, or leave --hand out"
            )

    def subjects(
        self, source: Source, image: UInt8[np.ndarray, "H W 3"], frame: int | None = None
    ) -> list[Subject]:
        """The people of a picture or frame, cut out of it.

        Raises:
            DataError: a box beside the picture, or of what the network does not predict; says
                which.
        """
        name = source.name if frame is None else f"{source.name}, frame {frame}"
        people = self.boxes.of(source, frame)
        spec = self.predictor.body.spec
        check_people(people, spec.kind, spec.name, name)
        subjects: list[Subject] = []
        for number, person in enumerate(people):
            where = f"{name}, box {number}"
            hand = person.hand or self.hand
            try:
                cutout = self.predictor.cut_out(image, person.box, hand)
                require_overlap(cutout.window, image.shape[1], image.shape[0])
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
            shown: Hand | None = (hand or "right") if spec.kind == "hand" else None
            subjects.append(Subject(where, person, shown, cutout))
        return subjects

    def predict(self, subjects: Sequence[Subject]) -> list[MeshResult]:
        """One result for each."""
        return self.predictor.predict_cutouts(
            [subject.cutout for subject in subjects], return_attention=self.settings.attention
        )


def describe(placed: Placed) -> dict[str, Any]:
    """One person for JSON."""
    result, rectangle = placed.result, placed.person.rectangle
    scale, tx, ty = (float(value) for value in result.camera)
    record: dict[str, Any] = {} if placed.track is None else {"track": placed.track}
    return record | {
        "hand": placed.hand,
        "box": None if rectangle is None else list(rectangle),
        "window": list(result.window),
        "camera": {"s": scale, "tx": tx, "ty": ty},
        "translation_m": None if placed.translation is None else _rounded(placed.translation, 6),
        "joints_m": _rounded(result.joints, _DIGITS_M),
        "joints_px": _rounded(result.joints_px[:, :2], _DIGITS_PX),
    }


def describe_camera(camera: CameraSource, width: int, height: int) -> dict[str, Any]:
    """The camera of a picture for JSON."""
    intrinsics = camera.for_picture(width, height)
    return {
        "focal_px": list(intrinsics.focal_px),
        "principal_point_px": list(intrinsics.principal_point_px),
        "source": camera.note,
    }


def write_meshes(
    placed: Sequence[Placed], folder: Path, settings: OutputSettings, prefix: str = ""
) -> list[dict[str, str]]:
    """Write the mesh files of all people; gives their names by format.

    Raises:
        DataError: a mesh cannot be placed before the camera; says what to do.
    """
    if settings.formats or settings.attention:
        folder.mkdir(parents=True, exist_ok=True)
    written: list[dict[str, str]] = []
    for number, each in enumerate(placed):
        names: dict[str, str] = {}
        stem = f"{prefix}person{number}"
        for ending in settings.formats:
            names[ending] = f"{stem}.{ending}"
            extra = {"translation": np.full(3, np.nan)}
            if each.translation is not None:
                extra = {"translation": each.translation}
            origin = _origin(each, settings, ending)
            export_mesh(each.result, folder / names[ending], origin=origin, extra=extra)
        if settings.attention:
            names["attention"] = f"{stem}.attention.npz"
            export_attention(each.result, folder / names["attention"])
        written.append(names)
    return written


def draw(image: UInt8[np.ndarray, "H W 3"], placed: Sequence[Placed]) -> UInt8[np.ndarray, "H W 3"]:
    """The overlay of all people."""
    depths = [None if p.translation is None else float(p.translation[2]) for p in placed]
    colors = [number if p.track is None else p.track for number, p in enumerate(placed)]
    return overlay_people(image, [p.result for p in placed], depths, colors=colors)


def write_picture(path: Path, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write an RGB picture as JPEG."""
    done, encoded = cv2.imencode(
        ".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert done, "OpenCV encodes every uint8 picture"
    path.write_bytes(encoded.tobytes())


def _origin(
    placed: Placed, settings: OutputSettings, ending: str
) -> Float[np.ndarray, " 3"] | None:
    if settings.origin == "root" or ending == "npz":
        return None
    if placed.translation is None:
        raise DataError(
            f"the predicted camera (s, tx, ty) = {placed.result.camera.tolist()} has no place in "
            "front of the picture (s must be above 0): the network has not learned its camera, or "
            "sees nobody in this box; --origin root writes the mesh without its place"
        )
    return placed.translation


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    return np.round(np.asarray(values, np.float64), digits).tolist()
