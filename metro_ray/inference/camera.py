"""The camera that took a picture: given, or assumed and said to be."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from metro_ray.errors import DataError
from metro_ray.geometry.cameras import (
    Intrinsics,
    centered_intrinsics,
    diagonal_intrinsics,
    full_translation,
)
from metro_ray.inference.result import MeshResult

ASSUMED = "assumed: focal length = diagonal of the picture, principal point = its middle"
_EXPECTED = (
    '{"K": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]} or {"fx": .., "fy": .., "cx": .., "cy": ..}'
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraSource:
    """How to come by the intrinsics of each picture of a run."""

    focal_px: float | None = None
    """Focal length of all pictures, whose middle is on the optical axis."""
    intrinsics: Intrinsics | None = None
    """Of all pictures."""
    note: str = ASSUMED
    """Where they come from, for the reader of the output."""

    @classmethod
    def of(cls, focal_px: float | None, file: Path | None) -> CameraSource:
        """From the options of a command line.

        Raises:
            DataError: both are given, or one that is no camera.
        """
        if focal_px is not None and file is not None:
            raise DataError("give a focal length or a file of intrinsics, not both")
        if file is not None:
            return cls(intrinsics=read_intrinsics(file), note=f"given: {file.name}")
        if focal_px is None:
            return cls()
        if not (math.isfinite(focal_px) and focal_px > 0):
            raise DataError(f"the focal length must be above 0 pixels, got {focal_px}")
        return cls(focal_px=focal_px, note="given: focal length; assumed: principal point = middle")

    def for_picture(self, width: int, height: int) -> Intrinsics:
        """The intrinsics of a picture of this size in pixels."""
        if self.intrinsics is not None:
            return self.intrinsics
        if self.focal_px is not None:
            return centered_intrinsics(self.focal_px, width, height)
        return diagonal_intrinsics(width, height)


def read_intrinsics(path: Path) -> Intrinsics:
    """Read the intrinsics of a camera from JSON: its matrix `K`, or `fx`, `fy`, `cx`, `cy`.

    Raises:
        DataError: not there, not JSON, or no camera without skew.
    """
    if not path.is_file():
        raise DataError(f"file of intrinsics {path} does not exist; expected {_EXPECTED}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"file of intrinsics {path} is not JSON: {error}") from error
    try:
        fx, fy, cx, cy = _four_numbers(content)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"file of intrinsics {path}: expected {_EXPECTED} in pixels, got {content!r}"
        ) from error
    if not all(map(math.isfinite, (fx, fy, cx, cy))) or fx <= 0 or fy <= 0:
        raise DataError(f"file of intrinsics {path}: focal lengths must be above 0, got {fx}, {fy}")
    return Intrinsics((fx, fy), (cx, cy))


def translation(result: MeshResult, intrinsics: Intrinsics) -> Float[np.ndarray, " 3"] | None:
    """Where the result's root is in camera coordinates, metres; None where nowhere in front of it.

    A network that has not learned its camera predicts scales of zero or below.
    """
    try:
        return full_translation(result.camera, result.window, intrinsics)
    except DataError:
        return None


def _four_numbers(content: Any) -> tuple[float, float, float, float]:
    if "K" not in content:
        return tuple(float(content[key]) for key in ("fx", "fy", "cx", "cy"))  # pyright: ignore[reportReturnType]
    (fx, skew, cx), (low, fy, cy), last = content["K"]
    if skew or low or [*map(float, last)] != [0.0, 0.0, 1.0]:
        raise ValueError("not the matrix of a camera without skew")
    return float(fx), float(fy), float(cx), float(cy)
