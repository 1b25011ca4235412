"""`metro-ray convert-weights`: METRO's files to ours and back."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def run(argv: Sequence[str]) -> int:
    """Convert, then print what became of the keys."""
    arguments = build_parser().parse_args(argv)
    from metro_ray.models.convert import convert_weights

    report = convert_weights(
        arguments.source,
        arguments.target,
        num_attention_heads=arguments.num_attention_heads,
        allow_mismatch=arguments.allow_mismatch,
    )
    print(f"{len(report.used)} tensors written to {arguments.target}")
    if report.dead:
        print(f"{len(report.dead)} entries of {arguments.source} are of no use and left out")
    if not report.matches:
        print(report.differences())
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray convert-weights",
        description="Turn METRO's *_state_dict.bin (body or hand) into a checkpoint folder; or a "
        "checkpoint folder or its model.safetensors into a *_state_dict.bin that METRO loads. "
        "Which way is told from the source.",
    )
    parser.add_argument("source", type=Path, help="file or folder to read")
    parser.add_argument("target", type=Path, help="new folder, or new *_state_dict.bin, to write")
    parser.add_argument(
        "--num_attention_heads",
        type=int,
        default=4,
        help="heads of a METRO network, which its file does not tell; default: 4",
    )
    parser.add_argument(
        "--allow_mismatch",
        action="store_true",
        help="leave out keys that the network does not have; they are listed",
    )
    return parser
