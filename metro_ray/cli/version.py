"""`metro-ray version`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from metro_ray.version import __version__


def run(argv: Sequence[str]) -> int:
    """Print the version."""
    argparse.ArgumentParser(prog="metro-ray version").parse_args(argv)
    print(f"metro_ray {__version__}")
    return 0
