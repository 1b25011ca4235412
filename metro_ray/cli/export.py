"""`metro-ray export`: a checkpoint as an ONNX file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from metro_ray.errors import ConfigError


def run(argv: Sequence[str]) -> int:
    """Write the file, try it, print what it takes and gives."""
    arguments = build_parser().parse_args(argv)
    target: Path = arguments.out
    if target.suffix != ".onnx":
        raise ConfigError(f"--out {target} must be the name of a file that ends in .onnx")
    if target.exists() and not arguments.overwrite:
        raise ConfigError(f"{target} exists: name another file, or add --overwrite")
    from metro_ray.inference.onnx_export import write_onnx
    from metro_ray.serve.sources import fetch, find_checkpoint, version_of
    from metro_ray.training.checkpoint import load_predictor_parts

    folder = fetch(find_checkpoint(arguments.checkpoint))
    parts = load_predictor_parts(folder, arguments.assets_root)
    target.parent.mkdir(parents=True, exist_ok=True)
    card = write_onnx(parts, version_of(folder), target)
    side, spec = card.image_size, parts.body.spec
    print(f"{target}: {card.arch}, {card.body_model}, version {card.version}")
    print(f"  in   crops     uint8   (B, 3, {side}, {side})  RGB planes, METRO's crop")
    print(f"  out  vertices  float32 (B, {spec.num_vertices}, 3)  metres, origin at the root")
    print(
        f"  out  joints    float32 (B, {len(card.joint_names)}, 3)  {', '.join(card.joint_names)}"
    )
    print("  out  cameras   float32 (B, 3)  scale and translation, weak perspective")
    print(f"  out  faces     int32   ({len(parts.body.faces)}, 3)")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray export",
        description="Write a network as an ONNX file, in float32, for batches of any size, with "
        "normalisation and joint regression inside. `metro-ray serve --set body.runtime=auto` "
        "makes one for itself.",
    )
    add = parser.add_argument
    add("checkpoint", help="checkpoint folder, run (its best), sweep, or fsspec URL of one")
    add("--out", type=Path, required=True, metavar="FILE.onnx", help="file to write")
    add("--assets_root", type=Path, help="licensed body models; default: the checkpoint's setting")
    add("--overwrite", action="store_true", help="replace a file that exists")
    return parser
