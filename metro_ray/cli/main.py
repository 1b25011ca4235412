"""`metro-ray <verb>`: finds the verb's module and runs it.

Nothing but the standard library is imported before a verb runs, so that help is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from metro_ray.cli.guard import USAGE, plain_errors
from metro_ray.version import __version__

VERBS: dict[str, str] = {
    "train": "train or evaluate on bodies or hands: metro-ray train body --preset demo",
    "submit": "run a job of jobs/ on a cluster: metro-ray submit train_body --preset demo",
    "plan": "time, cost and bottleneck of a run on GPUs that are not there yet",
    "tune": "search for settings with many runs: metro-ray tune body --preset demo",
    "predict": "meshes of the people or hands in photos, folders and videos, drawn over them",
    "serve": "networks over HTTP with a web page: metro-ray serve runs/demo",
    "serve-key": "make an API key for a service",
    "serve-swap": "change the weights of a service that runs",
    "call": "send photos to a service: metro-ray call photo.jpg --url http://127.0.0.1:8000",
    "compare": "two runs' errors row by row, with intervals and a page: metro-ray compare A B",
    "score": "the official figures for a FreiHAND prediction file, without the leaderboard",
    "synth": "render people or hands of the open body model as a METRO data set",
    "data": "check a data set, look at a row, convert: metro-ray data check train.yaml",
    "export": "a network as an ONNX file: metro-ray export runs/demo --out demo.onnx",
    "convert-weights": "METRO's released weights to a checkpoint folder, and back",
    "presets": "list the presets, or show one",
    "doctor": "which model files and libraries are there, and how to get the others",
    "version": "the version",
}
"""Each verb with its line of help; its module is `metro_ray.cli.<verb>`, with a `run(argv)`."""

_DEBUG = "--debug"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns or exits with its status.

    0: done; 1: done, and the answer is no; 2: an error that the message explains; 130: Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = _DEBUG in arguments
    arguments = [argument for argument in arguments if argument != _DEBUG]
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if verb in ("-h", "--help", "help"):
        print(_help())
        return 0
    if verb == "--version":
        verb = "version"
    if verb not in VERBS:
        near = get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"verbs: {', '.join(VERBS)}"
        print(f"metro-ray: unknown verb {verb!r}; {hint}", file=sys.stderr)
        return USAGE
    with plain_errors(debug):
        return import_module(f"metro_ray.cli.{verb.replace('-', '_')}").run(rest)


def _help() -> str:
    width = max(map(len, VERBS)) + 2
    lines = [f"  {verb:<{width}}{line}" for verb, line in VERBS.items()]
    return "\n".join(
        [
            f"metro-ray {__version__}: METRO human body and hand meshes on Ray",
            "",
            "usage: metro-ray VERB [--help] [arguments] [--debug]",
            "",
            *lines,
            "",
            "--debug shows the traceback of an error. For clusters, jobs/ holds train as scripts.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
