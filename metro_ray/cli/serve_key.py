"""`metro-ray serve-key`: make an API key; only its hash is stored."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def run(argv: Sequence[str]) -> int:
    """Add a key to the file, print it once."""
    arguments = build_parser().parse_args(argv)
    from metro_ray.serve.keys import add_key, make_key

    secret, key = make_key(arguments.name, arguments.rate, arguments.burst)
    add_key(arguments.file, key)
    print(secret)
    print(
        f"This is the key of {key.name}; it is shown only now. {arguments.file} holds its hash: "
        "name it with `metro-ray serve --keys` or access.keys_file. To revoke the key, take its "
        "line out; a running service notices.",
        file=sys.stderr,
    )
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray serve-key",
        description="Make an API key for a service, print it, and add its hash to a file.",
    )
    add = parser.add_argument
    add("name", help="who it is for; shown in logs and metrics")
    add("--file", type=Path, default=Path("keys.yaml"), help="default: keys.yaml")
    add("--rate", type=float, metavar="PER_S", help="requests a second; default: the service's")
    add("--burst", type=int, metavar="N", help="requests at once; default: the service's")
    return parser
