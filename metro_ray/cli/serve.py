"""`metro-ray serve`: a checkpoint as an HTTP service on this machine or on a cluster."""

from __future__ import annotations

import argparse
import math
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_ray.errors import ConfigError

if TYPE_CHECKING:
    from metro_ray.serve.settings import ServeArgs


def run(argv: Sequence[str]) -> int:
    """Serve until Ctrl-C or SIGTERM; with --print-config only say what would be served."""
    arguments = build_parser().parse_args(argv)
    from metro_ray.serve.settings import read_args

    args = read_args(_settings(arguments))
    if arguments.print_config:
        import yaml

        from metro_ray.serve.start import deploy_config

        print(yaml.safe_dump(deploy_config(args, arguments.host, arguments.port), sort_keys=False))
        return 0
    _serve(args, arguments.host, arguments.port, arguments.start_timeout)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        prog="metro-ray serve",
        description="Serve networks over HTTP: POST an image to /v1/body or /v1/hand, or open the "
        "page. A Ray cluster is started on this machine unless RAY_ADDRESS names one.",
        epilog="A checkpoint is a folder, a run's or sweep's folder (its best), pointers.json "
        "or a URL of one. docs/serving.md explains formats, limits, keys, scaling and how weights "
        "are changed.",
    )
    add = parser.add_argument
    add("checkpoint", nargs="?", help="of bodies or of hands, told from its own settings")
    add("--from-sweep", metavar="DIR", help="serve the best checkpoint of a sweep")
    add("--hand", metavar="CHECKPOINT", help="also serve hands")
    add("--host", default="127.0.0.1", help="address to listen on; others than loopback want keys")
    add("--port", type=int, default=8000, help="default: 8000")
    add("--keys", metavar="FILE", help="API keys, see metro-ray serve-key")
    add("--gpus", type=float, help="of each replica, such as 0.5; default: 0, the CPU")
    add("--max-replicas", type=int, help="of each model, as load asks for; default: 1")
    add("--precision", choices=("fp32", "bf16", "fp16"), help="default: as it was trained")
    add("--compile", action="store_true", default=None, help="torch.compile for each batch size")
    add("--follow", type=float, metavar="SECONDS", help="look this often for newer weights")
    add("--assets.root", dest="assets_root", help="folder of the licensed models")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting, such as limits.max_people=64 or body.max_batch_size=32",
    )
    add("--start-timeout", type=float, default=300.0, metavar="SECONDS", help="default: 300")
    add("--print-config", action="store_true", help="print the YAML for `serve deploy`, and end")
    return parser


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.from_sweep is not None:
        if arguments.checkpoint is not None:
            raise ConfigError("give a checkpoint or --from-sweep, not both")
        from metro_ray.sweeps.best import best_checkpoint

        best_checkpoint(arguments.from_sweep)  # tells what a folder without one lacks
        arguments.checkpoint = arguments.from_sweep
    if arguments.checkpoint is None and arguments.hand is None:
        raise ConfigError("nothing to serve: name a checkpoint, such as runs/demo")
    settings: dict[str, Any] = {}
    if arguments.checkpoint is not None:
        settings[_task_of(arguments.checkpoint)] = {"checkpoint": _absolute(arguments.checkpoint)}
    if arguments.hand is not None:
        if "hand" in settings:
            raise ConfigError(f"{arguments.checkpoint} predicts hands, and --hand names another")
        settings["hand"] = {"checkpoint": _absolute(arguments.hand)}
    shared = {
        "gpus": arguments.gpus,
        "precision": arguments.precision,
        "compile": arguments.compile,
        "follow_s": arguments.follow,
        "assets_root": arguments.assets_root,
        "cpu_threads": None if arguments.gpus else _threads(len(settings)),
    }
    for model in settings.values():
        model.update({name: value for name, value in shared.items() if value is not None})
        if arguments.max_replicas is not None:
            model["replicas"] = {"max_replicas": arguments.max_replicas}
    if arguments.keys is not None:
        settings["access"] = {"keys_file": str(Path(arguments.keys).absolute())}
    for assignment in arguments.set:
        _assign(settings, assignment)
    return settings


def _task_of(checkpoint: str) -> str:
    """Whether a checkpoint predicts bodies or hands."""
    from metro_ray.bodies.spec import get_spec
    from metro_ray.serve.sources import fetch, find_checkpoint
    from metro_ray.training.checkpoint_meta import PREDICTOR_FILES, read_meta

    folder = fetch(find_checkpoint(checkpoint))
    return get_spec(read_meta(folder, PREDICTOR_FILES).mesh).kind


def _absolute(name: str) -> str:
    """Replicas run in other folders."""
    from metro_ray.data.storage import is_url

    return name if is_url(name) else str(Path(name).absolute())


def _threads(models: int) -> int:
    from metro_ray.cluster.machine import usable_cpus

    return max(1, usable_cpus() // models)


def _assign(settings: dict[str, Any], assignment: str) -> None:
    """Take a `--set KEY=VALUE` over; the value is YAML."""
    import yaml

    key, equals, value = assignment.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {assignment}: expected KEY=VALUE, such as limits.max_people=64")
    *sections, name = key.split(".")
    place = settings
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {assignment}: {section} has no parts")
    place[name] = yaml.safe_load(value)


def _serve(args: ServeArgs, host: str, port: int, timeout_s: float) -> None:
    from metro_ray.cluster.connect import session
    from metro_ray.serve.start import deploy_config, running

    models = args.models.values()
    replicas = [model.replicas.max_replicas for model in models]
    cpus = sum(model.cpus * count for model, count in zip(models, replicas, strict=True))
    with session(math.ceil(cpus + args.ingress.cpus * args.ingress.replicas)):
        # Ray puts a handler of its own in place, which ends the process with a stack trace.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with running(deploy_config(args, host, port), timeout_s) as url:
            print(f"serving {', '.join(args.models)} at {url}")
            print(f"page {url}/  documentation {url}/docs  metrics {url}/metrics")
            example = f'curl --data-binary @photo.jpg -H "Content-Type: image/jpeg" {url}/v1/'
            print(f"try: {example}{next(iter(args.models))}", flush=True)
            _wait_for_signal()


def _wait_for_signal() -> None:
    """Return on Ctrl-C or SIGTERM: the regular end of a service."""
    try:
        while True:
            time.sleep(1.0)
    except KeyboardInterrupt:
        print("stopping: requests that have begun are finished", flush=True)
