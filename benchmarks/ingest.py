"""Rows a second through Ray Data beside the bare loop.

    python benchmarks/ingest.py --kind hand --rows 4096 --out benchmarks/results/ingest_hand.json

Both read the same plan with the same transform and stop at the batch that a training step would
take. The order of the two alternates from round to round. Compare by CPU time of all processes:
the clock also counts what else runs on the machine.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import torch
from about import about, save
from rows import KINDS, write_rows

from metro_ray.cluster.connect import cluster
from metro_ray.cluster.data import RayDataSource
from metro_ray.config.load import load_config
from metro_ray.config.schema import TrainConfig
from metro_ray.training.data_source import LocalDataSource

Rounds = dict[str, list[dict[str, float]]]


def tree_ticks() -> dict[int, int]:
    """CPU time of this process and of all that it has started, by process: Ray's daemons too."""
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # the process has just ended
            continue
        pid = int(stat.parent.name)
        parents[pid], used[pid] = int(fields[1]), int(fields[11]) + int(fields[12])

    def ours(pid: int) -> bool:
        while pid not in (0, os.getpid()):
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return {pid: ticks for pid, ticks in used.items() if ours(pid)}


def tree_cpu_seconds() -> float:
    return sum(tree_ticks().values()) / os.sysconf("SC_CLK_TCK")


def memory_mb() -> dict[str, float]:
    """Resident memory of this process and of the largest process of read tasks.

    The peak counts the pages of the object store that the process has looked at; `own` is what it
    holds itself in the end.
    """
    found: dict[str, float] = {}
    for pid in tree_ticks():
        try:
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        role = "rank" if pid == os.getpid() else "read_task" if name.startswith(b"ray::") else ""
        for field, what in (("VmHWM:", "peak"), ("RssAnon:", "own")):
            if role and field in status:
                megabytes = int(status.partition(field)[2].split()[0]) / 1024
                key = f"{role}_{what}"
                found[key] = round(max(found.get(key, 0.0), megabytes), 1)
    return found


def measure(batches) -> dict[str, float]:
    """Seconds to the first batch, rows a second after it, CPU time of everything for a row."""
    used, own = tree_cpu_seconds(), time.process_time()
    started, first, rows = time.perf_counter(), None, 0
    for batch in batches:
        if first is None:
            first, first_rows = time.perf_counter(), batch.num_rows
            continue
        rows += batch.num_rows
    ended = time.perf_counter()
    return {
        "first_batch_s": first - started,
        "rows_per_second": rows / (ended - first),
        "cpu_ms_per_row": 1e3 * (tree_cpu_seconds() - used) / (first_rows + rows),
        "own_cpu_ms_per_row": 1e3 * (time.process_time() - own) / (first_rows + rows),
    }


def check_equal(local: LocalDataSource, streamed: RayDataSource) -> int:
    """Compare all batches of an epoch number for number; returns how many rows were compared."""
    rows = 0
    for one, other in zip(local.train_batches(0), streamed.train_batches(0), strict=True):
        for name, mine, theirs in zip(one._fields, one, other, strict=True):
            equal = mine == theirs if name == "keys" else torch.equal(mine, theirs)
            if not equal:
                raise AssertionError(f"{name} differs behind row {rows}")
        rows += one.num_rows
    return rows


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, default="hand")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--block-rows", type=int, default=64, help="rows of a read task")
    parser.add_argument("--workers", type=int, default=2, help="threads of one, tasks of the other")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def config_of(folder: str, arguments: argparse.Namespace) -> TrainConfig:
    """Rows of the kind asked for, written to `folder`, and how both read them."""
    rows = write_rows(Path(folder), arguments.kind, arguments.rows)
    return load_config(
        KINDS[arguments.kind].spec.kind,
        overrides={
            "data.train_yaml": str(rows),
            "data.crop": "fast",
            "data.loader_workers": arguments.workers,
            "data.block_rows": arguments.block_rows,
            "optim.per_gpu_batch_size": arguments.batch,
            "optim.epochs": 1,  # so nothing is read ahead while the other is measured
            "run.device": "cpu",
        },
    )


def measure_rounds(local: LocalDataSource, streamed: RayDataSource, rounds: int) -> Rounds:
    """Each round measures both, in the other order than the round before."""
    found: Rounds = {"local": [], "ray": []}
    for epoch in range(rounds):
        for name in list(found)[:: 1 if epoch % 2 else -1]:
            source = local if name == "local" else streamed
            found[name].append(measure(source.train_batches(epoch)))
    return found


def main() -> int:
    arguments = parse_arguments()
    spec = KINDS[arguments.kind].spec
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(folder, arguments)
        with cluster(config) as plan:
            local = LocalDataSource(config, spec)
            streamed = RayDataSource(
                config, spec, plan, rank=0, world_size=1, gather=lambda value: [value]
            )
            compared = check_equal(local, streamed)  # also starts the processes
            rounds = measure_rounds(local, streamed, arguments.rounds)
            memory = memory_mb()
            streamed.close()
    ratios = [
        one["cpu_ms_per_row"] / other["cpu_ms_per_row"]
        for one, other in zip(rounds["ray"], rounds["local"], strict=True)
    ]
    result = {
        "kind": arguments.kind,
        "rows": arguments.rows,
        "batch": arguments.batch,
        "block_rows": config.data.block_rows,
        "workers": arguments.workers,
        "plan": plan.text,
        "rows_that_are_equal": compared,
        "ray_over_local_cpu": round(statistics.median(ratios), 3),
        "median": {
            name: {key: round(statistics.median(v[key] for v in values), 4) for key in values[0]}
            for name, values in rounds.items()
        },
        "memory_mb": memory,
        "machine": about("ray", "torch", "opencv-python", "numpy"),
    }
    save(result, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
