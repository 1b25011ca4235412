"""`metro-ray serve-swap`: change the weights of a service that runs, without a restart."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from metro_ray.errors import CheckpointError, ConfigError

_DASHBOARD = "http://127.0.0.1:8265"
_KEY = "METRO_RAY_API_KEY"


def run(argv: Sequence[str]) -> int:
    """Change what is deployed and wait until it answers."""
    arguments = build_parser().parse_args(argv)
    from metro_ray.serve.swap import swap, wait_for

    listening = swap(arguments.dashboard, arguments.task, _changes(arguments))
    url = (arguments.url or listening).rstrip("/")
    checkpoint = arguments.candidate or arguments.checkpoint
    version = None if checkpoint is None else _version(checkpoint)
    if checkpoint is None or version is None:
        print(f"asked for; {url}/v1/models tells when it answers")
        return 0
    key = os.environ.get(_KEY)
    wait_for(url, arguments.task, version, checkpoint, key, arguments.timeout)
    print(f"{arguments.task} is answered by {version}")
    return 0


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of `ModelChoice` that were given.

    Raises:
        ConfigError: none was.
    """
    given = {
        "checkpoint": arguments.checkpoint,
        "candidate": arguments.candidate,
        "candidate_share": arguments.share,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if arguments.drop_candidate:
        changes |= {"candidate": None, "candidate_share": 0.0}
    if not changes:
        raise ConfigError("nothing to change: name a checkpoint, --candidate or --drop-candidate")
    return changes


def _version(checkpoint: str) -> str | None:
    """What will answer; None where this machine does not see the checkpoint."""
    from metro_ray.serve.sources import fetch, find_checkpoint, version_of

    try:
        return version_of(fetch(find_checkpoint(checkpoint)))
    except CheckpointError:
        return None


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray serve-swap",
        description="Answer with other weights from now on. To go back, name the checkpoint "
        "before: replicas still hold it.",
    )
    add = parser.add_argument
    add("task", choices=("body", "hand"))
    add("checkpoint", nargs="?", help="as replicas see it; left out: stays as it is")
    add("--candidate", help="a second checkpoint that answers --share of the requests")
    add("--share", type=float, help="of the candidate, from 0 to 1")
    add("--drop-candidate", action="store_true", help="the first checkpoint answers everything")
    add(
        "--dashboard",
        default=os.environ.get("RAY_DASHBOARD_ADDRESS", _DASHBOARD),
        help=f"of the Ray cluster; default: RAY_DASHBOARD_ADDRESS, or {_DASHBOARD}",
    )
    add("--url", help=f"of the service, to wait for the answer; {_KEY} may hold a key")
    add("--timeout", type=float, default=300.0, metavar="SECONDS", help="default: 300")
    return parser
