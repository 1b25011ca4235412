"""`metro-ray data show`: one row of a data set, in words and as a picture."""

from __future__ import annotations

import argparse
import re
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

_EXAMPLES = """\
examples:
  metro-ray data show people/train.yaml synth_body/1/000007.jpg --augment 8
  metro-ray data show coco.parquet --row 1200 --out row.png
"""


def run(argv: Sequence[str]) -> int:
    """Print a row and write its picture; 1 where the row has errors."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if (arguments.key is None) == (arguments.row is None):
        parser.error("name the row: either its KEY or --row N")
    from metro_ray.data.check import guess_kind
    from metro_ray.data.check_find import find_row
    from metro_ray.data.check_row import inspect_row
    from metro_ray.data.check_rules import RULES
    from metro_ray.data.check_show import describe_row
    from metro_ray.data.dataset import open_dataset

    dataset = open_dataset(arguments.dataset)
    row_id, others = arguments.row, []
    if row_id is None:
        row_id, others = find_row(dataset, arguments.key)
    dataset.source(row_id)  # an error that names the range, where there is no such row
    kind = arguments.kind or guess_kind(dataset)
    facts = inspect_row(dataset, row_id, kind)
    print(describe_row(dataset, facts))
    if others:
        print(f"other rows with this key: {', '.join(map(str, others))}")

    from metro_ray.inference.data_report_pictures import LabelMeshes
    from metro_ray.inference.data_report_row import write_row_picture

    meshes = LabelMeshes(arguments.assets)
    path = arguments.out or Path(_file_name(facts.key))
    augment, seed = arguments.augment, arguments.seed
    written = write_row_picture(path, facts, meshes, augment=augment, seed=seed)
    if meshes.lacking:
        print(
            f"no mesh is drawn: the files of {', '.join(sorted(meshes.lacking))} are not here "
            "(metro-ray doctor says which)",
            file=sys.stderr,
        )
    if written is None:
        print("there is no picture to write", file=sys.stderr)
    else:
        print(f"wrote {written}", file=sys.stderr)
        if arguments.open:
            webbrowser.open(written.absolute().as_uri())
    return 1 if any(RULES[p.code].severity == "error" for p in facts.problems) else 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="metro-ray data show",
        description="Everything about one row: files, sizes, box, label fields, what is odd about "
        "them; and a PNG with the photo, box and joints, the crop as the network sees it, and the "
        "label's mesh where its body model is here.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", help="data set YAML, mixture, NAME.parquet, or URL of one")
    parser.add_argument("key", nargs="?", metavar="KEY", help="the row's key")
    parser.add_argument("--row", type=int, metavar="N", help="the row's number, from 0")
    parser.add_argument(
        "--augment",
        type=_count,
        default=0,
        metavar="N",
        help="also show N augmented crops: those of the first N epochs of training",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the augmentation; default: 0")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the PNG; default: KEY.png here")
    parser.add_argument("--open", action="store_true", help="open the PNG when it is written")
    parser.add_argument(
        "--kind",
        choices=("body", "hand"),
        help="what the rows describe; default: by the joints of the first rows",
    )
    parser.add_argument(
        "--assets", type=Path, metavar="DIR", help="folder of SMPL and MANO, for the mesh"
    )
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be >= 0, got {number}")
    return number


def _file_name(key: str) -> str:
    """`seq/image_1.jpg` -> `seq_image_1.png`."""
    stem = key.rsplit(".", 1)[0] if "." in key.rsplit("/", 1)[-1] else key
    return (re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("_.")[-80:] or "row") + ".png"
