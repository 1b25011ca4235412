"""Predict any number of pictures into a folder each, in constant memory; finished ones are kept.

    OUT/sub/photo_jpg/
      person0.obj, person0.glb  ..
      overlay.jpg
      people.json               written last: its presence says that the picture is finished

Pictures are decoded and cropped by threads while the network is busy with those before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from metro_ray.errors import DataError
from metro_ray.inference.inputs import Source
from metro_ray.inference.people import (
    Placed,
    Request,
    Subject,
    describe,
    describe_camera,
    draw,
    write_meshes,
    write_picture,
)
from metro_ray.inference.predictor import read_image
from metro_ray.inference.result import MeshResult

FORMAT = 1
RECORD, OVERLAY = "people.json", "overlay.jpg"
_THREADS = 2
_PICTURES_AT_ONCE = 8
"""Of which two lots are in memory: those that are predicted, and those that are being decoded."""


class Picture(NamedTuple):
    """A predicted picture, to be shown."""

    source: Source
    image: UInt8[np.ndarray, "H W 3"]
    people: list[Placed]


@dataclass(slots=True)
class Tally:
    """What became of the pictures."""

    num_predicted: int = 0
    num_people: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    """Reason by name of the picture."""


class _Opened(NamedTuple):
    source: Source
    image: UInt8[np.ndarray, "H W 3"]
    subjects: list[Subject]


def unfinished(
    sources: Sequence[Source], request: Request, out: Path, checkpoint: dict[str, str]
) -> list[Source]:
    """The pictures that are not there yet.

    Args:
        sources: pictures.
        request: with what, and what to write.
        out: folder of the output.
        checkpoint: what `checkpoint_mark` says of it.

    Raises:
        DataError: a finished picture was made with other settings.
    """
    return [
        source
        for source in sources
        if not is_finished(
            out / source.folder_name / RECORD, request_settings(source, request, checkpoint)
        )
    ]


def predict_pictures(
    sources: Sequence[Source],
    request: Request,
    out: Path,
    checkpoint: dict[str, str],
    tally: Tally,
    show: Callable[[Picture], None],
) -> Iterator[int]:
    """Predict and write pictures; yields the size of each lot that is finished, or has failed.

    Args:
        sources: pictures; earlier outputs of them are replaced.
        request: with what, and what to write.
        out: folder of the output.
        checkpoint: what `checkpoint_mark` says of it.
        tally: gets what became of each.
        show: is called with each picture that was predicted.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        for opened in _ahead(pool, sources, request, tally):
            for picture in _predict(opened, request, out, checkpoint, tally, pool):
                show(picture)
            yield len(opened)


def checkpoint_mark(folder: Path) -> dict[str, str]:
    """What tells the predictions of one checkpoint from those of another."""
    from metro_ray.training.checkpoint_meta import WEIGHTS

    return {"path": str(folder.resolve()), "weights_sha256": _sha256(folder / WEIGHTS)}


def is_finished(record: Path, settings: dict[str, Any]) -> bool:
    """Whether an output is there, made with the same settings.

    Args:
        record: the file that is written last.
        settings: of this run.

    Raises:
        DataError: it is there, and was made with others.
    """
    if not record.is_file():
        return False
    try:
        before = json.loads(record.read_text(encoding="utf-8"))["settings"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"{record} is not from this version of the program: use --overwrite, or another --out"
        ) from error
    now = json.loads(json.dumps(settings))
    differing = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
    if differing:
        raise DataError(
            f"{record.parent} was predicted with other settings ({', '.join(differing)}): use "
            "--overwrite to predict it again, or another --out"
        )
    return True


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write JSON so that it is there whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def clear_folder(folder: Path) -> None:
    """Make the folder of one picture or video, without what an earlier run wrote; record first."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in (RECORD, "video.json", "person*", "overlay.*", "people.*", "meshes/*_person*"):
        for path in folder.glob(pattern):
            path.unlink()


def request_settings(
    source: Source, request: Request, checkpoint: dict[str, str]
) -> dict[str, Any]:
    """What the output of a picture or video depends on, for JSON."""
    output = request.settings
    return {
        "file_sha256": _sha256(source.path),
        "boxes": request.boxes.digest(source),
        "checkpoint": checkpoint,
        "precision": request.predictor.precision,
        "hand": request.hand,
        "formats": list(output.formats),
        "origin": output.origin,
        "overlay": output.overlay,
        "attention": output.attention,
        "camera": [output.camera.note, output.camera.focal_px, output.camera.intrinsics],
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _ahead(
    pool: ThreadPoolExecutor, todo: Sequence[Source], request: Request, tally: Tally
) -> Iterator[list[_Opened | None]]:
    """Batches of opened pictures, the next one being opened meanwhile; None where one failed."""
    batches = iter(_batches(todo, _PICTURES_AT_ONCE))

    def submit() -> list[tuple[Source, Future[_Opened]]]:
        batch = next(batches, [])
        return [(source, pool.submit(_open, source, request)) for source in batch]

    coming = submit()
    while coming:
        opened: list[_Opened | None] = []
        for source, future in coming:
            try:
                opened.append(future.result())
            except DataError as error:
                tally.failures[source.name] = str(error)
                opened.append(None)
        coming = submit()
        yield opened


def _batches(sources: Sequence[Source], size: int) -> Iterator[list[Source]]:
    left = iter(sources)
    while batch := list(islice(left, size)):
        yield batch


def _open(source: Source, request: Request) -> _Opened:
    image = read_image(source.path)
    return _Opened(source, image, request.subjects(source, image))


def _predict(
    opened: Sequence[_Opened | None],
    request: Request,
    out: Path,
    checkpoint: dict[str, str],
    tally: Tally,
    pool: ThreadPoolExecutor,
) -> list[Picture]:
    whole = [picture for picture in opened if picture is not None]
    results = iter(request.predict([s for picture in whole for s in picture.subjects]))
    futures = [
        (
            picture.source,
            pool.submit(
                _write,
                picture,
                list(islice(results, len(picture.subjects))),
                request,
                out,
                checkpoint,
            ),
        )
        for picture in whole
    ]
    pictures: list[Picture] = []
    for source, future in futures:
        try:
            picture = future.result()
        except DataError as error:
            tally.failures[source.name] = str(error)
            continue
        tally.num_predicted += 1
        tally.num_people += len(picture.people)
        pictures.append(picture)
    return pictures


def _write(
    opened: _Opened,
    results: Sequence[MeshResult],
    request: Request,
    out: Path,
    checkpoint: dict[str, str],
) -> Picture:
    source, image = opened.source, opened.image
    height, width = image.shape[:2]
    output = request.settings
    intrinsics = output.camera.for_picture(width, height)
    people = [
        subject.place(result, intrinsics)
        for subject, result in zip(opened.subjects, results, strict=True)
    ]
    folder = out / source.folder_name
    clear_folder(folder)
    files = write_meshes(people, folder, output)
    if output.overlay:
        write_picture(folder / OVERLAY, draw(image, people))
    record = {
        "format": FORMAT,
        "picture": source.name,
        "width": width,
        "height": height,
        "body_model": request.predictor.body.spec.name,
        "camera": describe_camera(output.camera, width, height),
        "joint_names": list(request.predictor.body.spec.joints.names),
        "people": [
            describe(each) | {"files": names} for each, names in zip(people, files, strict=True)
        ],
        "settings": request_settings(source, request, checkpoint),
    }
    write_record(folder / RECORD, record)
    return Picture(source, image, people)
