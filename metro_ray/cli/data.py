"""`metro-ray data <command>`: look at data sets and convert them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from metro_ray.cli.guard import USAGE

COMMANDS: dict[str, str] = {
    "check": "read every row as training would, and say what is odd: text, JSON, HTML",
    "convert": "TSV to Parquet and back, or a raw data set to either; baked crops; remote storage",
    "show": "one row: its fields, and a picture of it as it is and as the network sees it",
}
"""Each command with its line of help; its module is `metro_ray.cli.data_<command>`, with a
`run(argv)`."""


def run(argv: Sequence[str]) -> int:
    """Run a command of the group."""
    command, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(_help())
        return 0
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"commands: {', '.join(COMMANDS)}"
        print(f"metro-ray data: unknown command {command!r}; {hint}", file=sys.stderr)
        return USAGE
    return import_module(f"metro_ray.cli.data_{command}").run(rest)


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {command:<{width}}{line}" for command, line in COMMANDS.items()]
    return "\n".join(["usage: metro-ray data COMMAND [--help] [arguments]", "", *lines])
