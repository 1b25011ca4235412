"""`metro-ray predict`: photos to meshes, with a gallery to look at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metro_ray.errors import DataError

if TYPE_CHECKING:
    from metro_ray.geometry.boxes import Box

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def run(argv: Sequence[str]) -> int:
    """Predict, write mesh files and the gallery, print where they are."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    paths = _pictures(arguments.images)
    if arguments.box is not None and len(paths) != 1:
        parser.error(f"--box belongs to one picture, got {len(paths)} pictures")
    from metro_ray.inference import Predictor, read_image
    from metro_ray.inference.export import export_attention, export_mesh
    from metro_ray.inference.gallery import GalleryItem, write_gallery

    images = [read_image(path) for path in paths]
    boxes = None if arguments.box is None else [_box(*arguments.box)]
    predictor = Predictor.from_checkpoint(
        arguments.checkpoint, arguments.device, assets_root=arguments.assets_root
    )
    results = predictor.predict(images, boxes, return_attention=arguments.attention)
    items = []
    for number, (path, image, result) in enumerate(zip(paths, images, results, strict=True)):
        for ending in arguments.formats:
            export_mesh(result, arguments.out / f"{number:03d}_{path.stem}.{ending}")
        if result.attention is not None:
            export_attention(result, arguments.out / f"{number:03d}_{path.stem}.attention.npz")
        items.append(GalleryItem(title=path.name, image=image, result=result))
    page = write_gallery(arguments.out, items, title=f"Predictions of {arguments.checkpoint}")
    print(f"meshes: {len(results)} in {arguments.out}\ngallery: {page}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray predict",
        description="Predict the mesh of the person or hand in each picture.",
    )
    parser.add_argument("images", type=Path, nargs="+", help="picture files, or folders of them")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="checkpoint folder, such as runs/demo/checkpoints/best",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("predictions"), help="default: predictions"
    )
    parser.add_argument(
        "--box",
        type=float,
        nargs=3,
        metavar=("X", "Y", "SIDE"),
        help="square around the person or hand: centre and side in pixels; default: whole picture",
    )
    parser.add_argument(
        "--formats",
        nargs="*",
        default=["obj", "glb"],
        choices=("obj", "ply", "glb", "npz"),
        help="mesh files to write; default: obj glb",
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="also write the last encoder's attention maps and hidden states (.attention.npz)",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda; default: cpu")
    parser.add_argument("--assets.root", dest="assets_root", help="folder of the licensed models")
    return parser


def _pictures(given: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in given:
        inside = (
            sorted(p for p in path.iterdir() if p.suffix.lower() in _PICTURES)
            if path.is_dir()
            else [path]
        )
        if not inside:
            raise DataError(f"folder {path} has no pictures ({', '.join(_PICTURES)})")
        found += inside
    return found


def _box(x: float, y: float, side: float) -> Box:
    from metro_ray.geometry.boxes import PIXELS_PER_SCALE, Box

    return Box((x, y), side / PIXELS_PER_SCALE)
