"""Images a second of 1, 2 and 4 ranks whose computing is a fixed wait: what coordination costs.

    python benchmarks/weak_scaling.py --out benchmarks/results/weak_scaling.json

Each rank takes its batches through Ray Data, sleeps for as long as a GPU would compute, and
adds up a gradient of a few megabytes with the others. Sleeping needs no core, so the ranks of one
machine do not compete for computing; reading and decoding are real. Perfect scaling is 1.

The defaults are METRO's 30 images a rank and a step of 1 s: 30 images/s a rank, so that 4 ranks
ask two cores for 120 rows/s. Ranks that compute faster need more cores, as on any machine:
`busy_cores` says what the whole machine spent. The exchange of METRO's full gradient (0.8 GB) is
the network's affair and not in here; docs/scaling.md reckons it.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from about import about, save
from rows import KINDS, write_rows

from metro_ray.cluster.connect import cluster, session
from metro_ray.config.load import load_config, to_dict

_GRADIENTS = 1_000_000


def train(settings):
    """One rank: seconds and rows of its steps after the first ones."""
    import ray.train
    import torch
    import torch.distributed as dist

    from metro_ray.cluster.data import RayDataSource
    from metro_ray.cluster.resources import ResourcePlan
    from metro_ray.config.load import from_dict

    context = ray.train.get_context()
    rank, ranks = context.get_world_rank(), context.get_world_size()

    def gather(value):
        found = [value] * ranks
        if ranks > 1:
            dist.all_gather_object(found, value)
        return found

    config, plan = from_dict(settings["config"]), ResourcePlan(**settings["plan"])
    data = RayDataSource(
        config,
        KINDS["hand"].spec,
        plan,
        rank=rank,
        world_size=ranks,
        gather=gather,
        pin_memory=False,
    )
    gradients, rows, started, busy = torch.ones(_GRADIENTS), 0, 0.0, 0.0
    try:
        for step, batch in enumerate(data.train_batches(0)):
            time.sleep(settings["compute_s"])
            if ranks > 1:
                dist.all_reduce(gradients)
            if step + 1 == settings["warm_up"]:
                started, busy = time.perf_counter(), busy_s()
            elif step + 1 > settings["warm_up"]:
                rows += batch.num_rows
        seconds, busy = time.perf_counter() - started, busy_s() - busy
    finally:
        data.close()
    measured = gather((rows, seconds))
    return {
        "rows": sum(r for r, _ in measured),
        "seconds": max(s for _, s in measured),
        "busy_cores": round(busy / seconds, 2),
    }


def busy_s():
    """Seconds that all cores of the machine have worked, for whatever program."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def measure(config, arguments):
    """Images a second of all ranks together."""
    from dataclasses import asdict

    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    with cluster(config) as plan, tempfile.TemporaryDirectory() as storage:
        result = TorchTrainer(
            train,
            train_loop_config={
                "config": to_dict(config),
                "plan": asdict(plan),
                "compute_s": arguments.compute_s,
                "warm_up": arguments.warm_up,
            },
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=plan.train_workers,
                resources_per_worker={"CPU": plan.cpus_per_worker},
            ),
            run_config=ray.train.RunConfig(storage_path=storage, name="weak"),
        ).fit()
    found = result.return_value
    return {**found, "images_per_second": round(found["rows"] / found["seconds"], 2)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch", type=int, default=30)
    parser.add_argument("--steps", type=int, default=24, help="of each rank")
    parser.add_argument("--warm-up", type=int, default=4, help="steps that are not counted")
    parser.add_argument("--compute-s", type=float, default=1.0, help="a step's stand-in")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    measured = {"machine": about("ray", "torch"), "compute_s": arguments.compute_s, "ranks": {}}
    with session(4 * max(arguments.ranks)):
        for ranks in arguments.ranks:
            with tempfile.TemporaryDirectory() as folder:
                rows = ranks * arguments.batch * arguments.steps
                measured["ranks"][ranks] = measure(
                    config_of(folder, rows, ranks, arguments), arguments
                )
    one = measured["ranks"][arguments.ranks[0]]["images_per_second"] / arguments.ranks[0]
    for ranks, values in measured["ranks"].items():
        values["efficiency"] = round(values["images_per_second"] / (one * ranks), 3)
        values["of_the_stand_in_alone"] = round(
            values["images_per_second"] * arguments.compute_s / (arguments.batch * ranks), 3
        )
    save(measured, arguments.out)
    return 0


def config_of(folder, rows, ranks, arguments):
    """Weak scaling: each rank has as many rows, however many ranks there are."""
    return load_config(
        "hand",
        overrides={
            "data.train_yaml": str(write_rows(Path(folder), "hand", rows)),
            "data.crop": "fast",
            "data.loader_workers": 1,
            "data.block_rows": arguments.batch,
            "optim.per_gpu_batch_size": arguments.batch,
            "optim.epochs": 1,
            "run.device": "cpu",
            "scaling.train_workers": ranks,
            "scaling.cpus_per_worker": 1.0,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
