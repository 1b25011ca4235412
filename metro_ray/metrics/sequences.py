"""Acceleration error of predictions on the frames of a video.

Definition of HMMR and VIBE (`compute_error_accel` in their `eval_utils.py`, joints relative to the
middle of the hips): the second difference of the predicted joints, x[n-1] - 2 x[n] + x[n+1], minus
that of the true ones; the length of it, averaged over the joints; per frame, so mm/frame^2. As the
second difference is linear, it is that of the residuals (prediction minus truth).

Which rows are frames of one video is read from their keys: `sequence/image_00012.jpg` is frame 12
of `sequence/image_`. Where several people are in a picture, rows are told apart by their shape
coefficients, which data sets of videos give once a person. A frame with two rows that cannot be
told apart is left out, and so are its neighbours' accelerations.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

_FRAME = re.compile(r"(?P<sequence>.+/[^/]*[^/\d])(?P<number>\d+)\.[A-Za-z]+")


class FrameName(NamedTuple):
    """What a key says about its row."""

    sequence: str
    number: int


class Frames(NamedTuple):
    """Rows that may belong to videos, in any order."""

    row_id: Int[np.ndarray, " N"]
    names: tuple[FrameName, ...]
    person: Int[np.ndarray, " N"]
    """Equal for rows of one person; see `person_of`."""
    residuals: Float32[np.ndarray, "N J 3"]
    """Predicted minus true joints, metres, both relative to the root."""


class Accelerations(NamedTuple):
    """Acceleration errors of the rows that have a frame before and one behind them."""

    row_id: Int[np.ndarray, " M"]
    errors: Float[np.ndarray, " M"]
    """Metres per frame squared, mean over joints."""


def frame_name(key: str) -> FrameName | None:
    """Sequence and number of a frame; None where a key does not end in `folder/nameNUMBER.ending`.

    Names that are nothing but a number are taken for unrelated pictures.

    >>> frame_name("downtown_arguing_00/image_00012.jpg")
    FrameName(sequence='downtown_arguing_00/image_', number=12)
    """
    found = _FRAME.fullmatch(key)
    return None if found is None else FrameName(found["sequence"], int(found["number"]))


def person_of(betas: Float[np.ndarray, "N S"]) -> Int[np.ndarray, " N"]:
    """A number for each row that is the same for the same shape coefficients."""
    rows = np.ascontiguousarray(betas, np.float32)
    return np.array([zlib.crc32(row.tobytes()) for row in rows], np.int64)


def join_frames(parts: Iterable[Frames], num_joints: int) -> Frames:
    """All frames of several batches or processes."""
    found = list(parts)
    if not found:
        none = np.zeros(0, np.int64)
        return Frames(none, (), none, np.zeros((0, num_joints, 3), np.float32))
    return Frames(
        np.concatenate([part.row_id for part in found]),
        tuple(name for part in found for name in part.names),
        np.concatenate([part.person for part in found]),
        np.concatenate([part.residuals for part in found]),
    )


def acceleration_errors(frames: Frames) -> Accelerations:
    """Errors of all frames whose neighbours are there, in the order of the rows."""
    place = _places(frames)
    triples = [
        (before, now, behind)
        for (sequence, person, number), now in place.items()
        if (before := place.get((sequence, person, number - 1))) is not None
        and (behind := place.get((sequence, person, number + 1))) is not None
    ]
    before, now, behind = np.array(triples, np.int64).reshape(-1, 3).T
    points = frames.residuals.astype(np.float64)
    second = points[before] - 2.0 * points[now] + points[behind]
    errors = np.linalg.norm(second, axis=2).mean(axis=1) if len(now) else np.zeros(0)
    order = np.argsort(frames.row_id[now], kind="stable")
    return Accelerations(frames.row_id[now][order], errors[order])


def _places(frames: Frames) -> dict[tuple[str, int, int], int]:
    """Index of each frame of each person; those that occur twice are left out."""
    place: dict[tuple[str, int, int], int] = {}
    twice: set[tuple[str, int, int]] = set()
    for index, (name, person) in enumerate(zip(frames.names, frames.person.tolist(), strict=True)):
        key = (name.sequence, person, name.number)
        if key in place:
            twice.add(key)
        place[key] = index
    return {key: index for key, index in place.items() if key not in twice}
