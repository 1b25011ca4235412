"""`metro-ray tune body|hand`: what `jobs/tune_body.py` and `jobs/tune_hand.py` do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from metro_ray.config.schema import Kind
from metro_ray.config.space_files import list_spaces
from metro_ray.config.sweep_cli import parse_tune


def run(argv: Sequence[str]) -> int:
    """Search, or show a sweep or the shipped spaces."""
    parser = argparse.ArgumentParser(
        prog="metro-ray tune",
        usage="%(prog)s body|hand [--tune.space NAME|FILE,...] [--tune.NAME VALUE ...] [--dry-run] "
        "[a run's arguments]\n       %(prog)s --status DIR\n       %(prog)s --spaces",
        description="Search for settings. All settings: metro-ray tune body --help",
    )
    parser.add_argument("kind", nargs="?", choices=("body", "hand"), help="what is reconstructed")
    parser.add_argument("--status", type=Path, metavar="DIR", help="show a sweep, running or not")
    parser.add_argument("--spaces", action="store_true", help="list the shipped search spaces")
    is_sweep = bool(argv) and argv[0] in ("body", "hand")
    arguments = parser.parse_args(argv[:1] if is_sweep else argv)
    if arguments.status is not None:
        return _show(arguments.status)
    if arguments.spaces:
        width = max(map(len, list_spaces())) + 2
        print("\n".join(f"{name:<{width}}{text}" for name, text in list_spaces().items()))
        return 0
    if arguments.kind is None:
        parser.error("body or hand is needed")
    return tune(arguments.kind, argv[1:], f"metro-ray tune {arguments.kind}")


def tune(kind: Kind, argv: Sequence[str], prog: str | None = None) -> int:
    """Run a sweep, or with --dry-run list its trials."""
    request = parse_tune(kind, argv, prog)
    if request.dry_run:
        from metro_ray.cluster.tune_dry import dry_run

        print(dry_run(request))
        return 0
    from metro_ray.cluster.tune import run_tune

    print(run_tune(request, say=lambda line: print(line, file=sys.stderr, flush=True)).text())
    return 0


def _show(folder: Path) -> int:
    from metro_ray.sweeps.ledger import Ledger
    from metro_ray.sweeps.status import status_text

    print(status_text(Ledger.open(folder)))
    return 0
