"""`metro-ray score`: a leaderboard's figures for a prediction file, without the leaderboard."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metro_ray.evaluation.freihand import FreihandScores, Hands, SampleErrors


def run(argv: Sequence[str]) -> int:
    """Read, check, measure, print."""
    arguments = build_parser().parse_args(argv)
    from metro_ray.evaluation.freihand_files import read_prediction, read_truth
    from metro_ray.evaluation.freihand_match import require_match
    from metro_ray.evaluation.freihand_report import console_text, write_report

    print(f"reading {arguments.gt} and {arguments.pred}", file=sys.stderr)
    truth, prediction = read_truth(arguments.gt), read_prediction(arguments.pred)
    require_match(truth, prediction)
    scores = _measure(truth, prediction)
    written = [] if arguments.out is None else write_report(scores, arguments.out)
    if arguments.json:
        print(json.dumps(scores.figures(), indent=2))
        return 0
    print(console_text(scores))
    if written:
        print(f"Scores written to: {', '.join(map(str, written))}")
    print("Evaluation complete.")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray score",
        description="The official FreiHAND figures for a prediction file. Means are centimetres, "
        "all others 0 to 1. METRO's predictions are relative to the wrist, so only their "
        "aligned (_al_) figures mean something.",
    )
    parser.add_argument("protocol", choices=["freihand"], help="whose figures")
    parser.add_argument(
        "--gt",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with evaluation_xyz.json and evaluation_verts.json of the data set",
    )
    parser.add_argument(
        "--pred",
        type=Path,
        required=True,
        metavar="FILE",
        help="zip with pred.json at its root, or such a JSON file: [joints, vertices], metres",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the figures by their official names as JSON"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="also write scores.txt, scores.json, pck_data.json and pck.png here",
    )
    return parser


def _measure(truth: Hands, prediction: Hands) -> FreihandScores:
    from metro_ray.data.progress import show_progress
    from metro_ray.evaluation.freihand import measure_samples, summarise

    ours, theirs = prediction.vertices.shape[1], truth.vertices.shape[1]
    if ours != theirs:
        print(
            f"warning: {ours} predicted vertices, {theirs} true ones: there are no mesh scores "
            "(-1), and the aligned F-scores follow the official script, whose fallback gets the "
            "size wrong",
            file=sys.stderr,
        )
    samples: list[SampleErrors] = []

    def one_by_one() -> Iterator[int]:
        for errors in measure_samples(truth, prediction):
            samples.append(errors)
            yield 1

    show_progress(one_by_one(), len(truth.joints), what="samples")
    return summarise(samples)
