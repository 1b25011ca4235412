"""`metro-ray predict`: photos, folders and videos to meshes on the whole picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from metro_ray.cli.predict_options import build_parser
from metro_ray.errors import DataError

if TYPE_CHECKING:
    from metro_ray.inference.folder import Picture
    from metro_ray.inference.gallery import GalleryItem
    from metro_ray.inference.inputs import Boxes, Found, Source
    from metro_ray.inference.people import Request
    from metro_ray.inference.video import VideoSettings


def run(argv: Sequence[str]) -> int:
    """Predict, write meshes, numbers and overlays, print where they are; 1 if some files failed."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    from metro_ray.inference.folder import checkpoint_mark
    from metro_ray.inference.inputs import find_sources

    found = find_sources(arguments.inputs, recursive=arguments.recursive)
    boxes = _boxes(parser, arguments, found)
    pictures = [source for source in found.sources if not source.is_video]
    videos = [source for source in found.sources if source.is_video]
    video = _video_settings(arguments)
    request = _request(arguments, boxes)
    mark = checkpoint_mark(arguments.checkpoint)
    failures: dict[str, str] = {}
    if pictures:
        failures |= _predict_pictures(pictures, request, mark, arguments)
    for source in videos:
        failures |= _predict_video(source, request, mark, video, arguments)
    if found.num_skipped:
        print(f"skipped: {found.num_skipped} files that are neither pictures nor videos")
    if len(failures) == len(found.sources) == 1:
        raise DataError(next(iter(failures.values())))
    if failures:
        print(f"failed: {len(failures)} of {len(found.sources)}", file=sys.stderr)
        for name, reason in failures.items():
            print(f"  {name}: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _boxes(parser: argparse.ArgumentParser, arguments: argparse.Namespace, found: Found) -> Boxes:
    from metro_ray.inference.inputs import Boxes, Person, parse_rectangle

    if arguments.box and arguments.boxes:
        parser.error("give --box or --boxes, not both")
    if arguments.box:
        if len(found.sources) != 1:
            parser.error(
                f"--box belongs to one file, got {len(found.sources)}: name boxes with --boxes"
            )
        people = tuple(Person(parse_rectangle(box, "--box")) for box in arguments.box)
        return Boxes(everywhere=people, origin="--box")
    if not arguments.boxes:
        return Boxes()
    boxes = Boxes.read(arguments.boxes)
    unused = boxes.check_names(found.sources)
    if unused:
        names = f"{', '.join(unused[:5])}{' ..' if len(unused) > 5 else ''}"
        print(f"{arguments.boxes} also has boxes for files that are not there: {names}")
    return boxes


def _video_settings(arguments: argparse.Namespace) -> VideoSettings:
    from metro_ray.inference.smoothing import OneEuroSettings
    from metro_ray.inference.video import VideoSettings

    smoothing = OneEuroSettings(
        min_cutoff_hz=arguments.smooth_min_cutoff, beta=arguments.smooth_beta
    )
    return VideoSettings(
        every=arguments.every,
        max_frames=arguments.max_frames,
        codec=arguments.codec,
        smoothing=smoothing if arguments.smooth else None,
    )


def _predict_pictures(
    pictures: Sequence[Source],
    request: Request,
    mark: dict[str, str],
    arguments: argparse.Namespace,
) -> dict[str, str]:
    """Predict, show the progress, write the gallery; gives the reasons of what failed."""
    from metro_ray.data.progress import show_progress
    from metro_ray.inference.folder import Tally, predict_pictures, unfinished

    if arguments.formats is None:
        settings = replace(request.settings, formats=("obj", "glb"))
        request = replace(request, settings=settings)
    out: Path = arguments.out
    overwrite = arguments.overwrite
    todo = pictures if overwrite else unfinished(pictures, request, out, mark)
    tally = Tally()
    shown: list[GalleryItem] = []

    def show(picture: Picture) -> None:
        shown.extend(_gallery_items(picture)[: max(0, arguments.gallery - len(shown))])

    steps = predict_pictures(todo, request, out, mark, tally, show)
    show_progress(steps, len(pictures), done=len(pictures) - len(todo), what="pictures")
    print(
        f"pictures: {tally.num_predicted} predicted with {tally.num_people} people, "
        f"{len(pictures) - len(todo)} kept, {len(tally.failures)} failed; in {out}"
    )
    if shown:
        from metro_ray.inference.gallery import write_gallery

        page = write_gallery(out, shown, title=f"Predictions of {arguments.checkpoint}")
        print(f"gallery: {page}")
    return tally.failures


def _gallery_items(picture: Picture) -> list[GalleryItem]:
    from metro_ray.inference.gallery import GalleryItem

    name = picture.source.name
    several = len(picture.people) > 1
    return [
        GalleryItem(
            title=f"{name}, person {number}" if several else name,
            image=picture.image,
            result=placed.result,
        )
        for number, placed in enumerate(picture.people)
    ]


def _predict_video(
    source: Source,
    request: Request,
    mark: dict[str, str],
    video: VideoSettings,
    arguments: argparse.Namespace,
) -> dict[str, str]:
    from metro_ray.data.progress import show_progress
    from metro_ray.inference.video import VideoTally, check_video, predict_video

    tally = VideoTally()
    try:
        total = check_video(source, video)
        steps = predict_video(
            source, request, arguments.out, mark, video, tally, overwrite=arguments.overwrite
        )
        show_progress(steps, total, what=f"frames of {source.name}")
    except DataError as error:
        return {source.name: str(error)}
    folder = arguments.out / source.folder_name
    if tally.kept:
        print(f"video: {source.name} is finished, kept; in {folder}")
        return {}
    print(f"video: {tally.num_frames} frames with {tally.num_people} people; in {folder}")
    if tally.num_frames < tally.num_announced:
        print(
            f"warning: {source.name} announces {tally.num_announced} frames and ends after "
            f"{tally.num_frames}: it may be cut off"
        )
    return {}


def _request(arguments: argparse.Namespace, boxes: Boxes) -> Request:
    from metro_ray.inference import Predictor
    from metro_ray.inference.camera import CameraSource
    from metro_ray.inference.people import OutputSettings, Request

    output = OutputSettings(
        formats=tuple(arguments.formats or ()),
        origin=arguments.origin,
        camera=CameraSource.of(arguments.focal, arguments.intrinsics),
        overlay=arguments.overlay,
        attention=arguments.attention,
    )
    predictor = Predictor.from_checkpoint(
        arguments.checkpoint,
        arguments.device,
        precision=arguments.precision,
        batch_size=arguments.batch_size,
        assets_root=arguments.assets_root,
    )
    return Request(predictor=predictor, boxes=boxes, hand=arguments.hand, settings=output)
