"""The options of `metro-ray predict`."""

from __future__ import annotations

import argparse
from pathlib import Path

_FORMATS = ("obj", "ply", "glb", "npz")


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray predict",
        description="Predict the meshes of the people or hands in pictures and videos: mesh files, "
        "joints and cameras as JSON, overlays on the whole picture.",
    )
    add = parser.add_argument
    add("inputs", type=Path, nargs="+", help="pictures, videos, or folders of them")
    add(
        "--checkpoint",
        type=Path,
        required=True,
        help="checkpoint folder, such as runs/demo/checkpoints/best",
    )
    add("--out", type=Path, default=Path("predictions"), help="default: predictions")
    add("--recursive", action="store_true", help="look into folders of folders too")
    add("--overwrite", action="store_true", help="predict again what is finished in --out")
    add("--device", default="cpu", help="cpu or cuda; default: cpu")
    add("--batch-size", type=_positive, default=16, help="people in one forward pass; default: 16")
    add("--precision", choices=("fp32", "bf16", "fp16"), help="default: as it was trained")
    add("--assets.root", dest="assets_root", help="folder of the licensed models")
    _add_people(parser.add_argument_group("people"))
    _add_outputs(parser.add_argument_group("output"))
    _add_videos(parser.add_argument_group("videos"))
    return parser


def _add_people(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--boxes", type=Path, metavar="FILE", help="JSON: {file name: [[x, y, width, height], ..]}"
    )
    group.add_argument(
        "--box",
        type=float,
        nargs=4,
        action="append",
        metavar=("X", "Y", "WIDTH", "HEIGHT"),
        help="a person or hand of the one file given, pixels; can be repeated; without boxes the "
        "middle of each picture is taken, as in METRO's demo",
    )
    group.add_argument(
        "--hand", choices=("left", "right"), help="which hand, where boxes do not say; right"
    )
    camera = group.add_mutually_exclusive_group()
    camera.add_argument(
        "--focal", type=float, metavar="PX", help="focal length; assumed: the picture's diagonal"
    )
    camera.add_argument(
        "--intrinsics", type=Path, metavar="FILE", help="JSON: K, or fx, fy, cx and cy, in pixels"
    )


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--formats",
        nargs="*",
        choices=_FORMATS,
        help="mesh files to write; default: obj glb for pictures, none for videos",
    )
    group.add_argument(
        "--origin",
        choices=("camera", "root"),
        default="camera",
        help="origin of obj, ply and glb: the camera, or each person's root; default: camera",
    )
    group.add_argument(
        "--no-overlay", dest="overlay", action="store_false", help="draw no overlays"
    )
    group.add_argument(
        "--attention",
        action="store_true",
        help="also write the last encoder's attention maps and hidden states (.attention.npz)",
    )
    group.add_argument(
        "--gallery",
        type=int,
        default=24,
        metavar="N",
        help="show the first N people of this run in gallery.html; default: 24, 0 for none",
    )


def _add_videos(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--every", type=_positive, default=1, metavar="N", help="one frame in N")
    group.add_argument("--max-frames", type=_positive, metavar="N", help="N frames at most")
    group.add_argument(
        "--codec", default="mp4v", help="of the overlay; vp09 plays in browsers; default: mp4v"
    )
    group.add_argument("--smooth", action="store_true", help="steady with the One-Euro filter")
    group.add_argument(
        "--smooth-min-cutoff",
        type=float,
        default=1.0,
        metavar="HZ",
        help="its cutoff at rest, lower trembles less; default: 1",
    )
    group.add_argument(
        "--smooth-beta",
        type=float,
        default=4.0,
        metavar="B",
        help="its rise with speed, higher lags less; default: 4",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number
