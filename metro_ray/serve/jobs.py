"""Jobs: many images, or a video, predicted in the background into one zip.

A job lives in the process that took it, with its files in a folder of its own; one job runs at a
time, the others wait. Its images go to the same replicas as everybody's, a few at once, so requests
in between still find room in batches.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8

from metro_ray.errors import DataError
from metro_ray.inference.video_files import VideoReader
from metro_ray.models.backbones import IMAGE_SIZE
from metro_ray.serve.images import open_image
from metro_ray.serve.predictions import Predictions
from metro_ray.serve.prepare import OpenImage, cut_people
from metro_ray.serve.problems import ApiError, overloaded
from metro_ray.serve.requests import Wanted
from metro_ray.serve.schema import ENDINGS, ErrorCode, Job, JobState, Task
from metro_ray.serve.settings import Jobs, Limits

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_AT_ONCE = 8
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
RESULT, REPORT = "result.zip", "report.json"
_VIDEO_STARTS = ((4, b"ftyp"), (0, b"\x1a\x45\xdf\xa3"), (8, b"AVI "))
"""MP4 and MOV, Matroska and WebM, AVI. Nothing else reaches the video library: it knows formats
that are lists of other files and addresses."""


class Upload(NamedTuple):
    """A file of a job, on this machine."""

    name: str
    path: Path


class _Picture(NamedTuple):
    name: str
    load: Callable[[], list[OpenImage]]


@dataclass(slots=True)
class Record:
    """What is known of a job."""

    id: str
    owner: str | None
    task: Task
    wanted: Wanted
    """Its only image says whom to look for in all of them."""
    folder: Path
    uploads: Sequence[Upload]
    state: JobState = "queued"
    done: int = 0
    total: int | None = None
    error: str | None = None
    failures: dict[str, str] = field(default_factory=dict)
    versions: set[str] = field(default_factory=set)
    work: asyncio.Task[None] | None = None

    def told(self) -> Job:
        """As clients see it."""
        return Job(id=self.id, state=self.state, done=self.done, total=self.total, error=self.error)


class JobRunner:
    """The jobs of one ingress process.

    Args:
        predictions: how images are answered.
        settings: limits of jobs.
        limits: of images.
    """

    def __init__(self, predictions: Predictions, settings: Jobs, limits: Limits) -> None:
        self._predictions = predictions
        self._settings = settings
        self._limits = limits
        self._records: dict[str, Record] = {}
        self._uploading = 0
        self._one_at_a_time = asyncio.Lock()

    @contextmanager
    def admitted(self) -> Iterator[Path]:
        """A place in the line and a folder for the files of a new job, while they come.

        The folder goes if they do not come to a job.

        Raises:
            ApiError: too many jobs are waiting or coming.
        """
        waiting = sum(record.state in ("queued", "running") for record in self._records.values())
        if waiting + self._uploading >= self._settings.max_queued:
            raise overloaded(self._limits.retry_after_s)
        base = self._settings.folder
        if base is not None:
            Path(base).mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="metro-job-", dir=base))
        self._uploading += 1
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._uploading -= 1

    def submit(
        self, task: Task, wanted: Wanted, folder: Path, uploads: Sequence[Upload], owner: str | None
    ) -> Job:
        """Begin a job as soon as those before it are done.

        Args:
            task: what to predict.
            wanted: format, and whom to look for in each image.
            folder: from `admitted`; belongs to the job from now on.
            uploads: images, or one video.
            owner: who may see it.
        """
        record = Record(uuid.uuid4().hex, owner, task, wanted, folder, uploads)
        self._records[record.id] = record
        record.work = asyncio.create_task(self._run(record))
        return record.told()

    def find(self, job_id: str, owner: str | None) -> Record:
        """A job of this owner.

        Raises:
            ApiError: there is none, or it is somebody else's.
        """
        record = self._records.get(job_id)
        if record is None or record.owner != owner:
            raise ApiError(
                ErrorCode.NOT_FOUND,
                f"there is no job {job_id[:64]!r}; jobs are kept for {self._settings.keep_s:g} s",
            )
        return record

    async def cancel(self, record: Record) -> Job:
        """End a job and drop its files; one that has ended is forgotten."""
        if record.work is not None and not record.work.done():
            if not record.work.cancelling():  # a second request would cut the first one's end short
                record.work.cancel()
            await asyncio.wait([record.work])
        self._drop(record)
        return record.told()

    def result(self, record: Record) -> Path:
        """The zip of a job that is done.

        Raises:
            ApiError: it is not.
        """
        if record.state != "done":
            raise ApiError(
                ErrorCode.NOT_FOUND,
                f"job {record.id} is {record.state}, its result is there when it is done",
            )
        return record.folder / RESULT

    async def _run(self, record: Record) -> None:
        try:
            async with self._one_at_a_time:
                record.state = "running"
                await self._predict(record)
            record.state = "done"
        except asyncio.CancelledError:
            record.state = "cancelled"
        except (ApiError, DataError) as error:
            record.state, record.error = "failed", str(error)
        except Exception:  # noqa: BLE001 - told by the state, and logged
            _LOG.exception("job %s failed", record.id)
            record.state, record.error = "failed", "the server failed; its log has the reason"
        if record.state != "done":
            shutil.rmtree(record.folder, ignore_errors=True)
        asyncio.get_running_loop().call_later(self._settings.keep_s, self._drop, record)

    async def _predict(self, record: Record) -> None:
        with (
            zipfile.ZipFile(record.folder / RESULT, "w", zipfile.ZIP_DEFLATED) as archive,
            closing(self._pictures(record)) as pictures,
        ):
            while lot := await self._to_its_end(lambda: list(islice(pictures, _AT_ONCE))):
                answers = await asyncio.gather(*(self._one(record, each) for each in lot))
                for picture, answer in zip(lot, answers, strict=True):
                    if answer is not None:
                        name = f"{picture.name}.{ENDINGS[record.wanted.format]}"
                        await self._to_its_end(lambda n=name, a=answer: archive.writestr(n, a))
            record.total = record.done  # a video may end before it says
            if record.done == len(record.failures):
                reason = next(iter(record.failures.values()), "no image was sent")
                raise DataError(f"none of {record.done} images could be predicted: {reason}")
            report = {
                "task": record.task,
                "format": record.wanted.format,
                "model_versions": sorted(record.versions),
                "images": record.done,
                "failed": record.failures,
            }
            archive.writestr(REPORT, json.dumps(report, indent=1))
        for upload in record.uploads:
            upload.path.unlink(missing_ok=True)

    async def _to_its_end(self, work: Callable[[], _T]) -> _T:
        """Run in a thread, and wait for it when cancelled: what it works on is closed next."""
        running = asyncio.ensure_future(self._predictions.in_thread(work))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    async def _one(self, record: Record, picture: _Picture) -> bytes | None:
        """The answer for one image; None where it cannot be used, which the report tells."""
        try:
            body, version = await self._predictions.predict_opened(
                record.task, record.wanted, picture.load
            )
        except (ApiError, DataError) as error:
            record.failures[picture.name] = str(error)
            body, version = None, None
        record.done += 1
        if version is not None:
            record.versions.add(version)
        return body

    def _pictures(self, record: Record) -> Generator[_Picture]:
        """What is to be predicted; counts it where that is known."""
        first = record.uploads[0]
        if len(record.uploads) == 1 and is_video(first.path):
            yield from self._frames(record, first)
            return
        record.total = len(record.uploads)
        most = self._limits.max_pixels
        for number, upload in enumerate(record.uploads):
            yield _Picture(
                f"{number:05d}_{safe_name(upload.name)}",
                lambda path=upload.path: [self._cut(record, open_image(path.read_bytes(), most))],
            )

    def _frames(self, record: Record, upload: Upload) -> Generator[_Picture]:
        with closing(VideoReader(upload.path)) as reader:
            if reader.width * reader.height > self._limits.max_pixels:
                raise DataError(
                    f"the video's frames of {reader.width} x {reader.height} pixels are too large; "
                    f"{self._limits.max_pixels} pixels are accepted: scale it down"
                )
            record.total = min(reader.num_expected(1, None), self._settings.max_frames) or None
            for frame in reader.frames(1, self._settings.max_frames):
                yield _Picture(
                    f"frame_{frame.number:06d}",
                    lambda image=frame.image: [self._cut(record, image)],
                )

    def _cut(self, record: Record, pixels: UInt8[np.ndarray, "H W 3"]) -> OpenImage:
        return cut_people(
            pixels, record.wanted.images[0], record.task, IMAGE_SIZE, kind=record.wanted.format
        )

    def _drop(self, record: Record) -> None:
        shutil.rmtree(record.folder, ignore_errors=True)
        self._records.pop(record.id, None)


def is_video(path: Path) -> bool:
    """Whether a file is of one of the kinds of video that are read, told from its first bytes."""
    with path.open("rb") as file:
        start = file.read(16)
    return any(start[place:].startswith(mark) for place, mark in _VIDEO_STARTS)


def safe_name(name: str) -> str:
    """A name for a file in the zip, from the one that a client gave."""
    stem = Path(name.replace("\\", "/")).name.rpartition(".")[0] or "image"
    return _UNSAFE.sub("_", stem)[:80]
