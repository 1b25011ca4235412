"""`metro-ray synth`: open data in METRO's TSV layout."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def run(argv: Sequence[str]) -> int:
    """Render the data set; one that is there in part is completed."""
    arguments = build_parser().parse_args(argv)
    from metro_ray.data.synth import run_synth

    report = run_synth(
        arguments.kind,
        arguments.num,
        arguments.out,
        arguments.seed,
        size=arguments.size,
        processes=arguments.processes,
        yaml_name=arguments.name,
        view=arguments.view,
        setting=arguments.setting,
    )
    print(report.summary())
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray synth",
        description="Render people or hands of the open body model, with exact labels, as a METRO "
        "data set (TSV). The same seed gives the same bytes, however many processes render.",
    )
    parser.add_argument("--kind", choices=("body", "hand"), required=True, help="what is rendered")
    parser.add_argument("--num", type=_positive, required=True, help="number of samples")
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--size", type=_positive, default=256, help="side in pixels; default: 256")
    parser.add_argument(
        "--view",
        choices=("wide", "full", "front"),
        default="wide",
        help="viewing directions: wide (turned by N(0, 60) degrees), full (all around), front "
        "(N(0, 20) degrees); default: wide",
    )
    parser.add_argument(
        "--setting",
        choices=("varied", "studio"),
        default="varied",
        help="what is around the subject: varied (rooms, noise, clutter, things in front of it) or "
        "studio (an even bright wall, nothing in front); default: varied",
    )
    parser.add_argument("--processes", type=_positive, help="default: one a core")
    parser.add_argument("--name", default="train", help="NAME.yaml is written; default: train")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {number}")
    return number
