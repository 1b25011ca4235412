"""`metro-ray call`: photos to a server, meshes back; takes no network on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from metro_ray.errors import DataError, MetroRayError, RequestError

if TYPE_CHECKING:
    from metro_ray.inference.inputs import Boxes, Source
    from metro_ray.serve.client import Client
    from metro_ray.serve.schema import Task

KEY_VARIABLE = "METRO_RAY_API_KEY"
_ENDINGS = {
    "glb": ".glb",
    "obj": ".obj",
    "ply": ".ply",
    "npz": ".npz",
    "json": ".json",
    "png": ".overlay.png",
    "depth": ".depth.zip",
}
_HOPELESS = (0, 401, 403)
"""Status of answers, 0 being none, after which no other photo is tried."""


@dataclass(slots=True)
class _Tally:
    """What became of the photos."""

    num_empty: int = 0
    """Photos in which the file of boxes marks nobody."""
    written: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def run(argv: Sequence[str]) -> int:
    """Send the photos and videos, write the answers; 1 if some photos failed."""
    arguments = build_parser().parse_args(argv)
    from metro_ray.inference.inputs import Boxes, find_sources

    found = find_sources(arguments.inputs, recursive=arguments.recursive)
    photos = [source for source in found.sources if not source.is_video]
    jobs = {source.folder_name: [source.path] for source in found.sources if source.is_video}
    if arguments.job and photos:
        jobs["photos"], photos = [photo.path for photo in photos], []
    _check_jobs(jobs, arguments)
    boxes = Boxes() if arguments.boxes is None else Boxes.read(arguments.boxes)
    if arguments.boxes is not None:
        boxes.check_names(photos)
    with _connect(arguments) as client:
        task = arguments.task or _task(client, arguments.hand)
        _run_jobs(client, task, jobs, arguments)
        if found.num_skipped:
            print(f"skipped: {found.num_skipped} files that are neither photos nor videos")
        return _send_photos(client, task, photos, boxes, arguments) if photos else 0


def _send_photos(
    client: Client,
    task: Task,
    photos: Sequence[Source],
    boxes: Boxes,
    arguments: argparse.Namespace,
) -> int:
    """A request for each photo; 1 if some failed.

    Raises:
        DataError: there was one, and it failed.
    """
    from metro_ray.data.progress import show_progress

    marked = [photo for photo in photos if boxes.of(photo)]
    tally = _Tally(num_empty=len(photos) - len(marked))
    send = partial(_send, client, task, arguments, boxes)
    show_progress(_each(marked, send, arguments.parallel, tally), len(marked), what="photos")
    _report(tally, client, arguments.out)
    if len(tally.failures) == len(marked) == 1:
        raise DataError(next(iter(tally.failures.values())))
    return 1 if tally.failures else 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray call",
        description="Send photos and videos to a server (`metro-ray serve`) and write what it "
        f"answers. An API key is read from {KEY_VARIABLE}.",
    )
    add = parser.add_argument
    add("inputs", type=Path, nargs="+", metavar="PHOTO", help="photos, videos, or folders of them")
    add("--url", default="http://127.0.0.1:8000", help="default: http://127.0.0.1:8000")
    add("--out", type=Path, default=Path("answers"), help="default: answers")
    add("--task", choices=("body", "hand"), help="default: hand with --hand, else what is served")
    add("--hand", choices=("left", "right"), help="which hand, where boxes do not say; right")
    add(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="JSON: {file name: [[x, y, width, height], ..]}; without, the middle of each photo",
    )
    add("--format", choices=tuple(_ENDINGS), default="glb", help="default: glb")
    add("--origin", choices=("camera", "root"), default="camera", help="of meshes; default: camera")
    add("--focal", type=float, metavar="PX", help="focal length; assumed: the photo's diagonal")
    add("--recursive", action="store_true", help="look into folders of folders too")
    add("--job", action="store_true", help="all photos as one job, into photos.zip; videos always")
    add("--parallel", type=int, default=4, metavar="N", help="photos on the way; default: 4")
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds; default: 60")
    add("--retries", type=int, default=4, metavar="N", help="after the first attempt; default: 4")
    return parser


def _connect(arguments: argparse.Namespace) -> Client:
    from metro_ray.serve.client import Client

    key = os.environ.get(KEY_VARIABLE)
    return Client(arguments.url, key, timeout=arguments.timeout, retries=arguments.retries)


def _check_jobs(jobs: Mapping[str, Sequence[Path]], arguments: argparse.Namespace) -> None:
    if jobs and arguments.boxes is not None:
        raise DataError(
            f"a job ({', '.join(jobs)}) looks at the middle of every picture and takes no file of "
            "boxes: leave --boxes out, or send photos without --job and without videos among them"
        )


def _run_jobs(
    client: Client, task: Task, jobs: Mapping[str, Sequence[Path]], arguments: argparse.Namespace
) -> None:
    """A job for each video, and for all photos where that was asked for; a zip for each."""
    from metro_ray.cli.call_jobs import run_job

    options = {"hand_side": arguments.hand, "focal_length": arguments.focal}
    options |= {"format": arguments.format, "origin": arguments.origin}
    for name, paths in jobs.items():
        target = arguments.out / f"{name}.zip"
        job = run_job(client, task, paths, target, options)
        print(f"{name}: {job.total} pictures in {target}; its report.json names what failed")


def _task(client: Client, hand: str | None) -> Task:
    if hand is not None:
        return "hand"
    served: set[Task] = {card.task for card in client.models()}
    return served.pop() if len(served) == 1 else "body"


def _each(photos: Sequence[Source], send: Any, parallel: int, tally: _Tally) -> Iterator[int]:
    """Send photos, some at once; yields 1 for each that is finished or has failed.

    Raises:
        RequestError: nobody answers, or the key is refused: the others would fare no better.
    """
    stop = Event()

    def attempt(photo: Source) -> Path | MetroRayError | None:
        try:
            return None if stop.is_set() else send(photo)
        except MetroRayError as error:
            if isinstance(error, RequestError) and error.status in _HOPELESS:
                stop.set()
                raise
            return error

    with ThreadPoolExecutor(max(1, parallel)) as pool:
        for photo, outcome in zip(photos, pool.map(attempt, photos), strict=True):
            if isinstance(outcome, MetroRayError):
                tally.failures[photo.name] = str(outcome)
            elif outcome is not None:
                tally.written.append(outcome)
            yield 1


def _send(
    client: Client, task: Task, arguments: argparse.Namespace, boxes: Boxes, photo: Source
) -> Path:
    corners, hand = _people(boxes, photo, arguments.hand)
    answer = client.predict_file(
        task,
        photo.path,
        corners,
        format=arguments.format,
        hand_side=hand,
        focal_length=arguments.focal,
        origin=arguments.origin,
    )
    path = arguments.out / (photo.folder_name + _ENDINGS[arguments.format])
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(answer)
    return unfinished.replace(path)


def _people(boxes: Boxes, photo: Source, hand: Any) -> tuple[list[list[float]] | None, Any]:
    """Corners as the server takes them, and the side of the hands."""
    people = boxes.of(photo)
    sides = {person.hand or hand for person in people}
    if len(sides) > 1:
        raise DataError(
            f"{photo.name}: its boxes are of left and of right hands, and one request takes one "
            "side: put them into two files of boxes"
        )
    rectangles = [person.rectangle for person in people if person.rectangle is not None]
    corners = [[x, y, x + width, y + height] for x, y, width, height in rectangles]
    return corners or None, next(iter(sides), hand)


def _report(tally: _Tally, client: Client, out: Path) -> None:
    again = f", {client.retries} requests sent again" if client.retries else ""
    print(f"photos: {len(tally.written)} answered, {len(tally.failures)} failed{again}; in {out}")
    if tally.num_empty:
        print(f"skipped: {tally.num_empty} photos in which the boxes mark nobody")
    if len(tally.failures) + len(tally.written) > 1:
        for name, reason in tally.failures.items():
            print(f"  {name}: {reason}", file=sys.stderr)
