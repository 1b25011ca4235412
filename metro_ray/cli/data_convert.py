"""`metro-ray data convert`: TSV to Parquet, back, or raw data sets to either."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metro_ray.data.rows import RowDataset

_LIST = "list"
_EXAMPLES = """\
examples:
  metro-ray data convert human3.6m/train.yaml s3://bucket/human3.6m/train.parquet --workers 16
  metro-ray data convert train.parquet tsv/train.yaml
  metro-ray data convert coco/train.yaml coco/train512.parquet --crop 512
  metro-ray data convert --raw freihand FreiHAND_pub_v2/ freihand/train.parquet --split train
"""


def run(argv: Sequence[str]) -> int:
    """Convert; a conversion that was stopped goes on where it was."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.raw == _LIST:
        print(_raw_help())
        return 0
    if arguments.source is None or arguments.target is None:
        parser.error("the following arguments are required: source, target")
    from metro_ray.data.bake import BakeSettings
    from metro_ray.data.convert import ConvertSettings, convert

    bake = None if arguments.crop is None else BakeSettings(size=arguments.crop)
    settings = ConvertSettings(bake, arguments.rows_per_part, arguments.max_bad_rows)
    dataset = _open(arguments)
    print(dataset.describe())
    report = convert(dataset, arguments.target, settings, workers=arguments.workers)
    print(f"wrote {report.num_rows} rows: {report.path}")
    if report.bad_rows:
        print(f"{len(report.bad_rows)} rows were left out because they cannot be read:")
        for row in report.bad_rows:
            print(f"  row {row.row_id} ({row.key}): {row.reason}")
    return 0


def _open(arguments: argparse.Namespace) -> RowDataset:
    if arguments.raw is None:
        from metro_ray.data.dataset import open_dataset

        return open_dataset(arguments.source)
    from metro_ray.data.raw import RAW, open_raw

    first = RAW[arguments.raw].splits[0] if arguments.raw in RAW else ""
    split = arguments.split or first
    options = dict(arguments.option)
    return open_raw(
        arguments.raw, arguments.source, split=split, images=arguments.images, **options
    )


def _raw_help() -> str:
    from metro_ray.data.raw import RAW

    return "\n".join(
        f"{name:10}{info.help} [{', '.join(info.splits)}]" for name, info in RAW.items()
    )


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray data convert",
        description="Write a data set in another format. The target's name decides:\n"
        "NAME.parquet (a folder or a URL) or NAME.yaml (METRO's TSV files beside it).\n"
        "Nothing is lost between the two. Memory does not grow with the data set; what was\n"
        "stopped goes on when it is started again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", nargs="?", help="data set YAML, NAME.parquet or URL; with --raw its folder"
    )
    parser.add_argument("target", nargs="?", help="NAME.parquet or NAME.yaml")
    parser.add_argument(
        "--crop",
        type=_positive,
        nargs="?",
        const=512,
        metavar="PX",
        help="store only the part of each picture that training can reach, at most PX pixels on a "
        "side (512 when no number is given); training then decodes less",
    )
    parser.add_argument("--workers", type=_positive, default=1, help="processes; default: 1")
    parser.add_argument(
        "--max-bad-rows",
        type=int,
        default=100,
        metavar="N",
        help="stop when more rows than this cannot be read; default: 100",
    )
    parser.add_argument(
        "--rows-per-part",
        type=_positive,
        metavar="N",
        help="rows of a Parquet file and of a step that can be resumed; default: at most 4096",
    )
    raw = parser.add_argument_group("raw data sets (docs/datasets.md)")
    raw.add_argument("--raw", metavar="NAME", help=f"which one; `--raw {_LIST}` shows all")
    raw.add_argument("--split", help="train, test, ...; default: its first, the training rows")
    raw.add_argument(
        "--images",
        choices=("original", "metro"),
        default="original",
        help="the files' own bytes, or encoded again as METRO does (JPEG, quality 95)",
    )
    raw.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what else the data set's reader takes, such as assets_root=DIR for the SMPL files",
    )
    return parser


def _option(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, value


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {number}")
    return number
