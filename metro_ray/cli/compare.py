"""`metro-ray compare`: two runs' errors row by row."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metro_ray.errors import MetroRayError

if TYPE_CHECKING:
    from metro_ray.evaluation.comparison import Comparison
    from metro_ray.inference.report_rows import Pictures

_ROWS = 5


def run(argv: Sequence[str]) -> int:
    """Read, pair, print; write the page where asked for."""
    arguments = build_parser().parse_args(argv)
    from metro_ray.evaluation.comparison import compare, comparison_text
    from metro_ray.evaluation.per_sample import find_results

    a, b = find_results(arguments.a), find_results(arguments.b)
    comparison = compare(a, b, num_rows=arguments.rows)
    names = (str(arguments.a), str(arguments.b))
    print(comparison_text(comparison, names))
    if arguments.out is not None:
        from metro_ray.inference.compare_report import write_comparison

        pictures = _pictures(comparison, arguments.rows)
        path = write_comparison(arguments.out, comparison, names, pictures)
        print(f"\nwritten: {path}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray compare",
        description="Pair two evaluations of the same data row by row: differences with bootstrap "
        "intervals, joints, rows that changed most, settings. Below zero B is better.",
    )
    for name, words in (("a", "what is compared with"), ("b", "what is compared")):
        parser.add_argument(
            name,
            type=Path,
            metavar="RUN",
            help=f"{words}: a run's folder (its best epoch), or a Parquet file of results",
        )
    parser.add_argument("--out", type=Path, metavar="HTML", help="also write a page, with pictures")
    parser.add_argument(
        "--rows",
        type=_count,
        default=_ROWS,
        metavar="N",
        help=f"rows that improved most, and rows that worsened most, {_ROWS}; 0 shows none",
    )
    return parser


def _pictures(comparison: Comparison, num_rows: int) -> Pictures | str:
    """Pictures of the rows that changed most, or the reason why there are none."""
    if not num_rows or not (comparison.improved or comparison.worsened):
        return "no rows are to be shown"
    from metro_ray.inference.compare_pictures import changed_pictures

    try:
        return changed_pictures(comparison, num_rows)
    except MetroRayError as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return str(error)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)
