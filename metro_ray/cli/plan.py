"""`metro-ray plan`: time, cost and bottleneck of a run on machines that are not there yet."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from metro_ray.config.cli import parse_train
from metro_ray.errors import ConfigError
from metro_ray.planning.costs import device, device_names, read_costs

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig
    from metro_ray.planning.estimate import Load, Site
    from metro_ray.planning.work import StepWork


def run(argv: Sequence[str]) -> int:
    """Estimate and print."""
    arguments, flags = build_parser().parse_known_args(argv)
    config = parse_train(arguments.kind, flags, prog="metro-ray plan")
    _require_positive(arguments)
    from metro_ray.planning.estimate import as_dict, estimate, text_of
    from metro_ray.planning.work import count_work

    work = count_work(config)
    load, site = _load(arguments, config, work), _site(arguments, config, work)
    done = estimate(load, site)
    if arguments.json:
        print(json.dumps(as_dict(load, site, done), indent=1))
    else:
        print(text_of(load, site, done))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb; those it does not know are the run's."""
    cluster = read_costs()["cluster"]
    parser = argparse.ArgumentParser(
        prog="metro-ray plan",
        allow_abbrev=False,
        usage="%(prog)s --dataset-rows N --gpus G --gpu NAME [flags of the run ...]",
        description="Estimate time, cost and bottleneck of a training run. Flags of the run "
        "(--preset, --arch, --per_gpu_train_batch_size, --data.crop ...) count. Where the numbers "
        "come from: metro_ray/planning/costs.yaml; how: docs/scaling.md.",
    )
    add = parser.add_argument
    add("--kind", choices=("body", "hand"), default="body", help="default: body")
    add("--dataset-rows", type=int, required=True, metavar="N", help="rows of the data set")
    add("--gpus", type=int, required=True, metavar="G", help="devices, one rank each")
    add("--gpu", required=True, metavar="NAME", help=f"one of: {', '.join(device_names())}")
    add("--images-per-second", type=float, metavar="X", help="that one device computes; if known")
    add("--mfu", type=float, metavar="X", help="share of the peak that training reaches, 0 to 1")
    add("--price", type=float, metavar="X", help="dollars an hour of one device")
    add("--baked", action="store_true", help="rows are crops of `data convert --crop 512`")
    for name, what in (
        ("gpus_per_node", "devices of a machine"),
        ("cpus_per_gpu", "cores for each device"),
        ("network_gb_s", "1e9 bytes a second between machines"),
        ("storage_gb_s", "1e9 bytes a second that a machine reads"),
    ):
        kind = int if name == "gpus_per_node" else float
        flag = "--" + name.replace("_", "-")
        add(flag, type=kind, default=None, metavar="X", help=f"{what}; default {cluster[name]}")
    add("--json", action="store_true", help="the same as JSON")
    return parser


def _require_positive(arguments: argparse.Namespace) -> None:
    for name, value in vars(arguments).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not value > 0:
            raise ConfigError(f"--{name.replace('_', '-')} must be > 0, got {value}")
    if arguments.mfu is not None and arguments.mfu > 1:
        raise ConfigError(f"--mfu must be at most 1, got {arguments.mfu}")
    if arguments.mfu is not None and arguments.images_per_second is not None:
        raise ConfigError("--mfu and --images-per-second say the same thing; give one of them")


def _load(arguments: argparse.Namespace, config: TrainConfig, work: StepWork) -> Load:
    from metro_ray.planning.estimate import Load

    costs = read_costs()
    rows = "body_baked" if arguments.baked and config.kind == "body" else config.kind
    row = costs["rows"][rows]
    own_ms = row["fast_ms" if config.data.crop == "fast" else "metro_ms"]
    return Load(
        rows=arguments.dataset_rows,
        epochs=config.optim.epochs,
        batch=config.optim.per_gpu_batch_size * config.optim.accumulate_steps,
        accumulated=config.optim.accumulate_steps,
        row_ms=own_ms * costs["ray_data"][rows],
        row_kb=row["kb"],
        work=work,
    )


def _site(arguments: argparse.Namespace, config: TrainConfig, work: StepWork) -> Site:
    from metro_ray.planning.estimate import Site

    costs, chosen = read_costs(), device(arguments.gpu)
    on_cpu = arguments.gpu == "cpu"
    rate, source = arguments.images_per_second, "given (--images-per-second)"
    if rate is None:
        share = arguments.mfu or costs["mfu"]["cpu" if on_cpu else "gpu"]
        precision = config.optim.precision
        precision = "tf32" if precision == "fp32" and config.optim.tf32 else precision
        peak = chosen["peak"][precision]
        rate = share * peak * 1e12 / work.flops
        said = "given" if arguments.mfu else "measured" if on_cpu else "assumed"
        source = (
            f"{share:.0%} ({said}) of {peak:g} TFLOP/s in {precision} ({chosen['peak_source']})"
        )
    cluster = costs["cluster"]
    site = Site(
        gpus=arguments.gpus,
        gpus_per_node=arguments.gpus_per_node or cluster["gpus_per_node"],
        cpus_per_gpu=arguments.cpus_per_gpu or (1 if on_cpu else cluster["cpus_per_gpu"]),
        images_per_second=rate,
        rate_source=source,
        nvlink_gb_s=chosen["nvlink"],
        network_gb_s=arguments.network_gb_s or cluster["network_gb_s"],
        storage_gb_s=arguments.storage_gb_s or cluster["storage_gb_s"],
        price=arguments.price or chosen["price"],
        overlap=cluster["overlap"],
    )
    return replace(site, gpus_per_node=min(site.gpus_per_node, site.gpus))
