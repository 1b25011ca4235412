"""Predict the frames of a video, in constant memory.

OUT/clip_mp4/
  overlay.mp4     the meshes over the frames that were predicted
  people.jsonl    one line a frame: number, time, people with joints and cameras
  meshes/         only with formats: 000012_person0.npz
  video.json      written last: its presence says that the video is finished
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from metro_ray.errors import DataError
from metro_ray.geometry.cameras import Intrinsics
from metro_ray.inference.camera import translation
from metro_ray.inference.cutouts import Hand
from metro_ray.inference.folder import (
    FORMAT,
    clear_folder,
    is_finished,
    request_settings,
    write_record,
)
from metro_ray.inference.inputs import Source
from metro_ray.inference.people import (
    Placed,
    Request,
    describe,
    describe_camera,
    draw,
    write_meshes,
)
from metro_ray.inference.smoothing import OneEuroSettings, Smoother, Tracks
from metro_ray.inference.video_files import Frame, VideoReader, VideoWriter

RECORD, OVERLAY, LINES = "video.json", "overlay.mp4", "people.jsonl"
_FRAMES_AT_ONCE = 8
_THREADS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSettings:
    """Which frames, and how they are put together."""

    every: int = 1
    """Predict one frame in so many."""
    max_frames: int | None = None
    """Predict so many frames at most."""
    codec: str = "mp4v"
    """Four letters; vp09 plays in browsers too, and takes about twenty times as long to write."""
    smoothing: OneEuroSettings | None = None

    def __post_init__(self) -> None:
        """Refuse what is no codec.

        Raises:
            DataError: not four letters.
        """
        if len(self.codec) != 4:
            raise DataError(f"a codec is named by four letters such as mp4v, got {self.codec!r}")


@dataclass(slots=True)
class VideoTally:
    """What became of a video."""

    num_frames: int = 0
    num_people: int = 0
    num_announced: int = 0
    """Frames that were to be read, as far as the file says."""
    kept: bool = False


def check_video(source: Source, settings: VideoSettings) -> int:
    """How many frames there will be, as far as the file says.

    Raises:
        DataError: the file is no video.
    """
    reader = VideoReader(source.path)
    reader.close()
    return max(1, reader.num_expected(settings.every, settings.max_frames))


def predict_video(
    source: Source,
    request: Request,
    out: Path,
    checkpoint: dict[str, str],
    video: VideoSettings,
    tally: VideoTally,
    *,
    overwrite: bool = False,
) -> Iterator[int]:
    """Predict and write a video; yields the number of frames of each batch.

    Args:
        source: the video.
        request: with what, and what to write of each frame.
        out: folder of the output.
        checkpoint: what `folder.checkpoint_mark` says of it.
        video: which frames.
        tally: gets what became of it.
        overwrite: predict it again where it is finished.

    Raises:
        DataError: no video, no frames, a box that fits no frame, or a finished output that was made
            with other settings.
    """
    folder = out / source.folder_name
    settings = request_settings(source, request, checkpoint) | {"video": asdict(video)}
    if not overwrite and is_finished(folder / RECORD, settings):
        tally.kept = True
        return
    reader = VideoReader(source.path)
    try:
        frames = reader.frames(video.every, video.max_frames)
        first = next(frames, None)
        if first is None:
            raise DataError(f"{source.path} has no frames that can be read: it is cut off or empty")
        tally.num_announced = reader.num_expected(video.every, video.max_frames)
        clear_folder(folder)
        run = _Run(source, request, folder, video, reader.fps, first)
        yield from run.predict(frames, tally)
        write_record(folder / RECORD, run.record(tally, settings))
    finally:
        reader.close()


class _Run:
    """One video on its way."""

    def __init__(
        self,
        source: Source,
        request: Request,
        folder: Path,
        video: VideoSettings,
        fps: float,
        first: Frame,
    ) -> None:
        self._source, self._request, self._folder, self._video = source, request, folder, video
        self._fps, self._first = fps / video.every, first
        self._height, self._width = first.image.shape[:2]
        camera = request.settings.camera
        self._intrinsics: Intrinsics = camera.for_picture(self._width, self._height)
        self._tracks = Tracks()
        self._smoother = None if video.smoothing is None else Smoother(video.smoothing)

    def predict(self, rest: Iterator[Frame], tally: VideoTally) -> Iterator[int]:
        """Predict and write all frames; yields the size of each batch."""
        lines = self._folder / LINES
        unfinished = lines.with_name(lines.name + ".part")
        batch = [self._first, *islice(rest, _FRAMES_AT_ONCE - 1)]
        with (
            ThreadPoolExecutor(_THREADS) as pool,
            unfinished.open("w", encoding="utf-8") as file,
            self._writer() as writer,
        ):
            while batch:
                ahead = pool.submit(lambda: list(islice(rest, _FRAMES_AT_ONCE)))
                people = self._people(batch)
                for frame, placed in zip(batch, people, strict=True):
                    file.write(json.dumps(self._line(frame, placed), allow_nan=False) + "\n")
                    tally.num_people += len(placed)
                if writer is not None:
                    for drawn in pool.map(draw, [frame.image for frame in batch], people):
                        writer.write(drawn)
                tally.num_frames += len(batch)
                yield len(batch)
                batch = ahead.result()
        unfinished.replace(lines)

    def record(self, tally: VideoTally, settings: dict[str, Any]) -> dict[str, Any]:
        """What is known about the whole video, for JSON."""
        spec = self._request.predictor.body.spec
        return {
            "format": FORMAT,
            "video": self._source.name,
            "width": self._width,
            "height": self._height,
            "fps": self._fps,
            "num_frames": tally.num_frames,
            "num_frames_announced": tally.num_announced,
            "num_people": tally.num_people,
            "body_model": spec.name,
            "camera": describe_camera(self._request.settings.camera, self._width, self._height),
            "joint_names": list(spec.joints.names),
            "settings": settings,
        }

    def _writer(self) -> AbstractContextManager[VideoWriter | None]:
        if not self._request.settings.overlay:
            return nullcontext()
        size = (self._width, self._height)
        return VideoWriter(self._folder / OVERLAY, self._video.codec, self._fps, *size)

    def _people(self, frames: list[Frame]) -> list[list[Placed]]:
        subjects = [
            self._request.subjects(self._source, frame.image, frame.number) for frame in frames
        ]
        results = iter(self._request.predict([s for of_frame in subjects for s in of_frame]))
        people: list[list[Placed]] = []
        for frame, of_frame in zip(frames, subjects, strict=True):
            placed = [
                subject.place(result, self._intrinsics)
                for subject, result in zip(of_frame, islice(results, len(of_frame)), strict=True)
            ]
            people.append(self._steadied(placed, frame.time_s))
        return people

    def _steadied(self, people: list[Placed], time_s: float) -> list[Placed]:
        windows = [placed.result.window for placed in people]
        hands: list[Hand | None] = [placed.hand for placed in people]
        tracks = self._tracks.assign(windows, hands, time_s)
        people = [p._replace(track=track) for p, track in zip(people, tracks, strict=True)]
        if self._smoother is None:
            return people
        self._smoother.forget(self._tracks.active)
        steady: list[Placed] = []
        for placed, track in zip(people, tracks, strict=True):
            result = self._smoother(placed.result, track, time_s)
            root = translation(result, self._intrinsics)
            steady.append(placed._replace(result=result, translation=root))
        return steady

    def _line(self, frame: Frame, people: list[Placed]) -> dict[str, Any]:
        settings = self._request.settings
        meshes = self._folder / "meshes"
        files = write_meshes(people, meshes, settings, prefix=f"{frame.number:06d}_")
        return {
            "frame": frame.number,
            "time_s": round(frame.time_s, 6),
            "people": [
                describe(each) | {"files": {k: f"meshes/{v}" for k, v in names.items()}}
                for each, names in zip(people, files, strict=True)
            ],
        }
