"""Video files as frames, and frames as a video file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from metro_ray.errors import DataError


class Frame(NamedTuple):
    """A picture of a video."""

    number: int
    """From 0, counting those that are left out."""
    time_s: float
    image: UInt8[np.ndarray, "H W 3"]


class VideoReader:
    """The frames of a video file, one after the other, RGB."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            DataError: not a video that OpenCV reads, or one without a frame rate.
        """
        self.path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise DataError(
                f"{path} cannot be opened as a video: it is damaged, or in a format that this "
                "OpenCV does not read; convert it, for example with ffmpeg -i FILE out.mp4"
            )
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise DataError(f"{path} does not say its frame rate: convert it to a video that does")
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.num_announced = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def frames(self, every: int, max_frames: int | None) -> Iterator[Frame]:
        """One frame in `every`, `max_frames` at most; those between are not converted."""
        number = taken = 0
        while max_frames is None or taken < max_frames:
            if not self._capture.grab():
                return
            if number % every == 0:
                decoded, image = self._capture.retrieve()
                if not decoded:
                    return
                taken += 1
                yield Frame(number, number / self.fps, np.ascontiguousarray(image[:, :, ::-1]))
            number += 1

    def num_expected(self, every: int, max_frames: int | None) -> int:
        """Frames that `frames` will give, as far as the file says; it may be wrong."""
        total = math.ceil(self.num_announced / every)
        return total if max_frames is None else min(total, max_frames)

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()


class VideoWriter:
    """Writes RGB pictures of one size as an MP4, which appears when it is whole."""

    def __init__(self, path: Path, codec: str, fps: float, width: int, height: int) -> None:
        """Start the file.

        Raises:
            DataError: this OpenCV does not write the codec.
        """
        self._path, self._unfinished = path, path.with_suffix(f".part{path.suffix}")
        code = cv2.VideoWriter.fourcc(*codec)
        self._writer = cv2.VideoWriter(str(self._unfinished), code, fps, (width, height))
        if not self._writer.isOpened():
            raise DataError(
                f"this OpenCV cannot write {width} x {height} video with the codec {codec}: use "
                "--codec mp4v or vp09, or --no-overlay for numbers only"
            )

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._writer.release()
        if kind is None:
            self._unfinished.replace(self._path)
        else:
            self._unfinished.unlink(missing_ok=True)

    def write(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Append a picture."""
        self._writer.write(np.ascontiguousarray(image[:, :, ::-1]))
