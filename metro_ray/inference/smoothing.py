"""Steady people in videos: who is who from frame to frame, and the One-Euro filter.

The filter is that of Casiez, Roussel and Vogel, "1 Euro Filter: A Simple Speed-based Low-pass
Filter for Noisy Input in Interactive Systems" (CHI 2012): exponential smoothing of each number,
with a cutoff frequency that rises with its speed. Slow means steady, fast means little lag.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from metro_ray.errors import DataError
from metro_ray.geometry.boxes import Window
from metro_ray.inference.cutouts import Hand
from metro_ray.inference.result import MeshResult, place_in_picture

MIN_OVERLAP = 0.3
"""Intersection over union of two windows, below which they are not the same person."""
MAX_GAP_S = 0.5
"""Seconds for which someone may be out of sight and still be the same person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OneEuroSettings:
    """The filter's parameters, of which the first two are to be tuned."""

    min_cutoff_hz: float = 1.0
    """Cutoff at rest: lower trembles less."""
    beta: float = 4.0
    """Rise of the cutoff with speed, Hz per unit/s: higher lags less. Units are metres for the mesh
    and half crop sides for the place in the picture."""
    speed_cutoff_hz: float = 1.0
    """Cutoff of the speed's own low-pass filter."""

    def __post_init__(self) -> None:
        """Refuse values that are no filter.

        Raises:
            DataError: a cutoff that is not above 0, or a beta below 0.
        """
        fits = self.min_cutoff_hz > 0 and self.speed_cutoff_hz > 0 and self.beta >= 0
        if not fits or not all(map(math.isfinite, (self.min_cutoff_hz, self.beta))):
            raise DataError(
                "the One-Euro filter needs cutoffs above 0 Hz and a beta of 0 or more, got "
                f"min cutoff {self.min_cutoff_hz}, beta {self.beta}, "
                f"speed cutoff {self.speed_cutoff_hz}"
            )


class OneEuro:
    """The filter of one signal of any number of values, each filtered on its own."""

    def __init__(self, settings: OneEuroSettings) -> None:
        self._settings = settings
        self._time_s: float | None = None
        self._value = np.empty(0)
        self._speed = np.empty(0)

    def __call__(self, value: Float[np.ndarray, " N"], time_s: float) -> Float[np.ndarray, " N"]:
        """The filtered value; times must rise."""
        value = np.asarray(value, np.float64)
        if self._time_s is None:
            self._value, self._speed = value, np.zeros_like(value)
        else:
            period = time_s - self._time_s
            if period <= 0:
                raise ValueError(f"times must rise, got {time_s} after {self._time_s}")
            speed = (value - self._value) / period
            weight = _weight(self._settings.speed_cutoff_hz, period)
            self._speed = self._speed + weight * (speed - self._speed)
            cutoff = self._settings.min_cutoff_hz + self._settings.beta * np.abs(self._speed)
            self._value = self._value + _weight(cutoff, period) * (value - self._value)
        self._time_s = time_s
        return self._value


class Tracks:
    """Numbers people through a video.

    The rule: every person of a frame is compared with everyone seen in the last `MAX_GAP_S`; the
    pair whose windows overlap most is the same person, then the next pair, down to an intersection
    over union of `MIN_OVERLAP` (equal overlaps go by the order of the boxes). Left and right hands
    are never the same. Who is left over is new.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Window, Hand | None, float]] = {}
        self._count = 0

    def assign(
        self, windows: Sequence[Window], hands: Sequence[Hand | None], time_s: float
    ) -> list[int]:
        """The number of each person of the next frame."""
        recent = {k: v for k, v in self._seen.items() if time_s - v[2] <= MAX_GAP_S + 1e-9}
        pairs = sorted(
            (-overlap, person, track)
            for person, (window, hand) in enumerate(zip(windows, hands, strict=True))
            for track, (before, side, _) in recent.items()
            if side == hand and (overlap := _overlap(window, before)) >= MIN_OVERLAP
        )
        found: dict[int, int] = {}
        for _, person, track in pairs:
            if person not in found and track not in found.values():
                found[person] = track
        for person in range(len(windows)):
            if person not in found:
                found[person] = self._count
                self._count += 1
        self._seen = recent
        for person, (window, hand) in enumerate(zip(windows, hands, strict=True)):
            self._seen[found[person]] = (window, hand, time_s)
        return [found[person] for person in range(len(windows))]

    @property
    def active(self) -> set[int]:
        """Tracks that may go on."""
        return set(self._seen)


class Smoother:
    """One filter for each track, over mesh, joints and place in the picture.

    The place (root in pixels, logarithm of pixels per metre) is filtered rather than the crop's
    camera, which jumps with its box; the camera is then made to fit.
    """

    def __init__(self, settings: OneEuroSettings) -> None:
        self._settings = settings
        self._filters: dict[int, tuple[OneEuro, float]] = {}

    def __call__(self, result: MeshResult, track: int, time_s: float) -> MeshResult:
        """The result with the jitter taken out; unchanged where its camera's scale is not above 0.

        Args:
            result: of a frame.
            track: who it is.
            time_s: of the frame, rising within a track.
        """
        if not result.camera[0] > 0:
            self._filters.pop(track, None)
            return result
        if track not in self._filters:
            side = 0.5 * math.sqrt(result.window.width * result.window.height)
            self._filters[track] = (OneEuro(self._settings), side)
        one_euro, unit_px = self._filters[track]
        place = _place(result, unit_px)
        parts = [result.vertices.reshape(-1), result.joints.reshape(-1), place]
        cuts = np.cumsum([len(part) for part in parts])[:-1]
        vertices, joints, place = np.split(one_euro(np.concatenate(parts), time_s), cuts)
        return _moved(
            result,
            vertices.reshape(-1, 3).astype(np.float32),
            joints.reshape(-1, 3).astype(np.float32),
            _camera(place, result.window, unit_px),
        )

    def forget(self, active: set[int]) -> None:
        """Drop the filters of all other tracks."""
        self._filters = {k: v for k, v in self._filters.items() if k in active}


def _weight(
    cutoff_hz: Float[np.ndarray, " N"] | float, period_s: float
) -> Float[np.ndarray, " N"] | float:
    """Weight of the new value in exponential smoothing with a cutoff frequency."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * period_s))


def _overlap(a: Window, b: Window) -> float:
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (a.width * a.height + b.width * b.height - common)


def _halves(window: Window) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    half = 0.5 * np.array([window.width, window.height], np.float64)
    return half, np.array([window.left, window.top], np.float64) + half


def _place(result: MeshResult, unit_px: float) -> Float[np.ndarray, " 3"]:
    """Root in the picture, and size: (x, y) / unit, log of pixels per metre / unit."""
    half, middle = _halves(result.window)
    camera = result.camera.astype(np.float64)
    root = middle + half * camera[0] * camera[1:]
    return np.array([*root / unit_px, math.log(camera[0] * half[0] / unit_px)])


def _camera(
    place: Float[np.ndarray, " 3"], window: Window, unit_px: float
) -> Float[np.ndarray, " 3"]:
    """The camera (s, tx, ty) of a window in which the root has this place."""
    half, middle = _halves(window)
    scale = math.exp(place[2]) * unit_px / half[0]
    shift = (place[:2] * unit_px - middle) / (half * scale)
    return np.array([scale, *shift], np.float32)


def _moved(
    result: MeshResult, vertices: np.ndarray, joints: np.ndarray, camera: np.ndarray
) -> MeshResult:
    return result._replace(
        vertices=vertices,
        joints=joints,
        camera=camera,
        vertices_px=place_in_picture(vertices, camera, result.window),
        joints_px=place_in_picture(joints, camera, result.window),
    )
