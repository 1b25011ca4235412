"""`metro-ray data check`: what is odd about a data set."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metro_ray.data.check import CheckReport
    from metro_ray.data.rows import RowDataset

_EXAMPLES = """\
examples:
  metro-ray data check human3.6m/train.yaml --workers 8
  metro-ray data check coco.parquet --sample 2000 --out reports/coco

exit status: 0 nothing of severity error, 1 errors were found, 2 the check could not be made
"""


def run(argv: Sequence[str]) -> int:
    """Check, print, write; 1 where errors were found."""
    arguments = build_parser().parse_args(argv)
    from metro_ray.data.check_text import to_text

    _make_folders([arguments.json, arguments.html, arguments.out and arguments.out / "report.txt"])
    dataset, report = _check(arguments)
    text = to_text(report)
    print(text)
    for path in _write(arguments, dataset, report, text):
        print(f"wrote {path}", file=sys.stderr)
    return 1 if report.count("error") else 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="metro-ray data check",
        description="Read the rows of a data set as training would and report what is odd: files, "
        "images, boxes, joints, poses, keys. A broken row never stops the check; memory does not "
        "grow with the data set (but for 32 bytes a row).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", help="data set YAML, mixture, NAME.parquet, or URL of one")
    parser.add_argument(
        "--sample", type=_positive, metavar="N", help="check N rows, evenly spread; default: all"
    )
    parser.add_argument("--workers", type=_positive, default=1, help="processes; default: 1")
    parser.add_argument(
        "--kind",
        choices=("body", "hand"),
        help="what the rows describe; default: by the joints of the first rows",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with pictures of rows"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write report.txt, report.json and report.html"
    )
    parser.add_argument(
        "--assets", type=Path, metavar="DIR", help="folder of SMPL and MANO, for meshes in --html"
    )
    return parser


def _make_folders(paths: Sequence[Path | None]) -> None:
    """Make the folders of what will be written, before the work and not after it."""
    from metro_ray.errors import ConfigError

    for path in paths:
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error}; name another place with --json, --html, --out"
            ) from error


def _check(arguments: argparse.Namespace) -> tuple[RowDataset | None, CheckReport]:
    """The data set, None where it is there and cannot be opened, and its report."""
    from metro_ray.data.check import check_dataset, unopened_report
    from metro_ray.data.dataset import open_dataset
    from metro_ray.data.storage import as_path
    from metro_ray.errors import DataError

    try:
        dataset = open_dataset(arguments.dataset)
    except DataError as error:
        if not as_path(arguments.dataset).exists():
            raise
        return None, unopened_report(arguments.dataset, str(error))
    report = check_dataset(
        dataset, kind=arguments.kind, sample=arguments.sample, workers=arguments.workers
    )
    return dataset, report


def _write(
    arguments: argparse.Namespace, dataset: RowDataset | None, report: CheckReport, text: str
) -> list[Path]:
    """Write what was asked for; returns the paths."""
    from metro_ray.data.check_text import to_json

    folder = arguments.out
    texts: list[tuple[Path | None, str]] = [
        (arguments.json, json.dumps(to_json(report), indent=1) + "\n")
    ]
    pages = [arguments.html]
    if folder is not None:
        texts += [(folder / "report.txt", text + "\n"), (folder / "report.json", texts[0][1])]
        pages.append(folder / "report.html")
    written = []
    for path, content in texts:
        if path is not None:
            path.write_text(content, encoding="utf-8")
            written.append(path)
    wanted = [page for page in pages if page is not None]
    if wanted:
        from metro_ray.inference.data_report import render_report

        page_text = render_report(dataset, report, assets_root=arguments.assets)
        for path in wanted:
            path.write_text(page_text, encoding="utf-8")
            written.append(path)
    return written


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {number}")
    return number
