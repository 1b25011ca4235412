"""`metro-ray doctor`: model files and libraries, present or not, and how to get the others."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from metro_ray.bodies.assets import AssetStatus
    from metro_ray.bodies.catalog import BodyStatus

_MIN_WIDTH = 100
_MIB = 1 << 20


def run(argv: Sequence[str]) -> int:
    """Report; status 1 only with --strict and something amiss."""
    arguments = build_parser().parse_args(argv)
    from metro_ray.bodies.assets import asset_report
    from metro_ray.bodies.catalog import available_bodies
    from metro_ray.cli.environment import environment

    facts = environment()
    assets = asset_report(arguments.assets_root)
    bodies = available_bodies(arguments.assets_root)
    if arguments.json:
        import json

        report = {
            "environment": facts,
            "body_models": {name: asdict(status) for name, status in bodies.items()},
            "assets": [asdict(status) | {"differs": status.differs} for status in assets],
        }
        print(json.dumps(report, indent=2))
    else:
        _show(facts, assets, bodies)
    is_well = all(b.present for b in bodies.values()) and not any(a.differs for a in assets)
    return 0 if is_well or not arguments.strict else 1


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray doctor",
        description="Show which model files and libraries are there, with checksums, and how to "
        "get the others. Missing licensed files are no fault: the open body models need none.",
    )
    parser.add_argument(
        "--assets.root",
        dest="assets_root",
        metavar="FOLDER",
        help="folder of the model files; default: METRO_RAY_ASSETS, then ./assets",
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with 1 if a body model cannot be used or a file is not the published one",
    )
    return parser


def _show(
    facts: Mapping[str, str], assets: Sequence[AssetStatus], bodies: Mapping[str, BodyStatus]
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, _MIN_WIDTH))
    here = Table("", "", title="environment", title_justify="left", show_header=False, box=None)
    for name, value in facts.items():
        here.add_row(name, value)
    console.print(here)
    console.print()
    _show_assets(console, assets)
    console.print()
    for name, status in bodies.items():
        lacks = f"[yellow]lacks {', '.join(status.missing)}[/]"
        console.print(f"{name:<10} {'[green]ready[/]' if status.present else lacks}")


def _show_assets(console: Console, assets: Sequence[AssetStatus]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="model files", title_justify="left", show_lines=True)
    table.add_column("state", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("what, where, how to get it", overflow="fold")
    for asset in assets:
        size = "" if asset.size is None else f"{asset.size / _MIB:.1f} MiB"
        table.add_row(_state(asset), size, Text("\n".join(_details(asset))))
    console.print(table)


def _state(asset: AssetStatus) -> str:
    if not asset.present:
        return "[yellow]missing[/]"
    return "[red]differs[/]" if asset.differs else "[green]present[/]"


def _details(asset: AssetStatus) -> list[str]:
    lines = [asset.name, f"for: {asset.used_for}", f"path: {asset.path}"]
    if asset.sha256 is not None:
        lines.append(f"sha256: {asset.sha256}")
    if asset.expected_sha256 is not None and asset.expected_sha256 != asset.sha256:
        lines.append(f"published: {asset.expected_sha256}")
    lines.append(f"licence: {asset.licence}")
    if not asset.present or asset.differs:
        lines.append(f"to get it: {asset.how_to_get}")
    return lines
