"""Rows a second through Ray Data beside the bare loop, on rows of the size of the demo's.

    python benchmarks/ingest.py --rows 2000 --out ingest.json

Both read the same plan with the same transform and stop at the batch that a training step would
take. Times are of this machine alone; the order of the two alternates from round to round.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import ray
import torch

from metro_ray.bodies.spec import get_spec
from metro_ray.cluster.connect import cluster
from metro_ray.cluster.data import RayDataSource
from metro_ray.cluster.machine import usable_cpus
from metro_ray.config.load import load_config
from metro_ray.data.writer import TsvDatasetWriter
from metro_ray.training.data_source import LocalDataSource


def write_rows(folder: Path, count: int, side: int) -> Path:
    """Smooth pictures of `side` x `side` pixels with whole labels."""
    spec = get_spec("anny_body")
    joints = len(spec.label_joints)
    with TsvDatasetWriter(folder, "train") as writer:
        for row in range(count):
            rng = np.random.default_rng(row)
            coarse = rng.integers(0, 256, (16, 16, 3), np.uint8)
            picture = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
            label = {
                "center": [side / 2, side / 2],
                "scale": side / 200,
                "2d_joints": rng.uniform(0, side, (joints, 3)),
                "has_2d_joints": 1,
                "3d_joints": rng.uniform(-0.5, 0.5, (joints, 4)),
                "has_3d_joints": 1,
                "pose": rng.uniform(-0.1, 0.1, spec.num_pose),
                "betas": np.full(spec.num_betas, 0.5),
                "has_smpl": 0,
                "has_mesh": 1,
                "body_model": spec.name,
            }
            encoded = cv2.imencode(".jpg", picture)[1].tobytes()
            writer.add(f"row{row}.jpg", encoded, label, side, side)
    return writer.yaml_path


def tree_cpu_seconds() -> float:
    """CPU time of this process and all that it has started: Ray's daemons and tasks too."""
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

    return sum(ticks for pid, ticks in used.items() if ours(pid)) / os.sysconf("SC_CLK_TCK")


def measure(batches) -> dict[str, float]:
    """Seconds to the first batch, rows a second after it, CPU time of everything for a row."""
    used = tree_cpu_seconds()
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
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--side", type=int, default=256, help="of the pictures, pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2, help="threads of one, tasks of the other")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    spec = get_spec("anny_body")
    rounds: dict[str, list[dict[str, float]]] = {"local": [], "ray": []}
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(
            "body",
            overrides={
                "data.train_yaml": str(write_rows(Path(folder), arguments.rows, arguments.side)),
                "data.crop": "fast",
                "data.loader_workers": arguments.workers,
                "optim.per_gpu_batch_size": arguments.batch,
                "optim.epochs": 1,  # so nothing is read ahead while the other is measured
                "run.device": "cpu",
            },
        )
        with cluster(config) as plan:
            local = LocalDataSource(config, spec)
            streamed = RayDataSource(
                config, spec, plan, rank=0, world_size=1, gather=lambda value: [value]
            )
            for epoch in range(arguments.rounds + 1):  # the first round starts the processes
                order = ("local", "ray") if epoch % 2 else ("ray", "local")
                for name in order:
                    source = local if name == "local" else streamed
                    rounds[name].append(measure(source.train_batches(epoch)))
            streamed.close()
    result = {
        "rows": arguments.rows,
        "side_px": arguments.side,
        "batch": arguments.batch,
        "workers": arguments.workers,
        "plan": plan.text,
        "warm_up": {name: values[0] for name, values in rounds.items()},
        "median": {
            name: {key: statistics.median(v[key] for v in values[1:]) for key in values[0]}
            for name, values in rounds.items()
        },
        "load_average": os.getloadavg()[0],
        "cpus": usable_cpus(),
        "versions": {
            "ray": ray.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
