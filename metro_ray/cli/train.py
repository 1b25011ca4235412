"""`metro-ray train body|hand`: what `jobs/train_body.py` and `jobs/train_hand.py` do."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from metro_ray.config.cli import parse_train


def run(argv: Sequence[str]) -> int:
    """Train or evaluate, then print what came of it."""
    parser = argparse.ArgumentParser(
        prog="metro-ray train",
        usage="%(prog)s body|hand [--preset NAME|FILE] [METRO's flags] [--section.key VALUE ...]",
        description="Train or evaluate METRO. All settings: metro-ray train body --help",
    )
    parser.add_argument("kind", choices=("body", "hand"), help="what is reconstructed")
    kind = parser.parse_args(argv[:1]).kind
    config = parse_train(kind, argv[1:], prog=f"metro-ray train {kind}")
    from metro_ray.cluster.train import run_train

    print(run_train(config).text())
    return 0
