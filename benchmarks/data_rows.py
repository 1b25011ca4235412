"""Rows a second on one core: read, decode, crop, augment; beside METRO's way on the same files.

    python benchmarks/data_rows.py --out benchmarks/results/data_rows.json

`metro` is METRO's work per sample (`metro_rows.py`), `parity` our path with METRO's float64 crop
(the default), `fast` with `data.crop fast`. They take turns of some rows each; a ratio is of the
CPU times of one round, so that what else runs on the machine meets all of them. OpenCV and torch
have one thread. On baked rows there is nothing to compare with in METRO: they are measured against
its body rows, whose crops they give.

`--memory` prints how the memory of a reading process grows with the rows that it has read.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
from about import about, save
from metro_rows import MetroRows, Stages, check_crops
from rows import KINDS, bytes_per_row, write_rows

from metro_ray.data import SampleTransform, open_dataset

_ROWS = 64
_TURN = 16
_BATCH = 32
Contestants = dict[str, Callable[[int, int], object]]


def contestants(folder: Path, kind: str, train: bool) -> Contestants:
    """What is measured, each as a function of row and epoch."""
    spec, name = KINDS[kind].spec, f"{kind}.yaml"
    dataset = open_dataset(folder / name, spec)
    source = "body" if kind == "baked" else kind
    metro = MetroRows(folder, source, KINDS[source].spec, train=train)
    parity = SampleTransform(spec, train=train, crop_mode="metro")
    fast = SampleTransform(spec, train=train, crop_mode="fast")
    return {
        "metro": lambda row, epoch: metro.sample(row),
        "parity": lambda row, epoch: parity(dataset.row(row), row, epoch),
        "fast": lambda row, epoch: fast(dataset.row(row), row, epoch),
    }


def measure(given: Contestants, rounds: int) -> dict[str, object]:
    """CPU milliseconds a row, and how many times as fast as METRO: median of the rounds."""
    times: dict[str, list[float]] = {name: [] for name in given}
    for epoch in range(rounds + 1):  # the first round warms up
        used = dict.fromkeys(given, 0.0)
        for start in range(0, _ROWS, _TURN):
            order = list(given) if (epoch + start // _TURN) % 2 else list(given)[::-1]
            for name in order:
                begin = time.process_time()
                for row in range(start, start + _TURN):
                    given[name](row, epoch)
                used[name] += time.process_time() - begin
        for name, seconds in used.items():
            times[name].append(1000 * seconds / _ROWS)
    times = {name: values[1:] for name, values in times.items()}
    result: dict[str, object] = {
        f"{name}_ms": round(statistics.median(values), 3) for name, values in times.items()
    }
    for name in ("parity", "fast"):
        ratios = [m / ours for m, ours in zip(times["metro"], times[name], strict=True)]
        result[f"{name}_times_as_fast"] = round(statistics.median(ratios), 2)
        result[f"{name}_rounds"] = [round(min(ratios), 2), round(max(ratios), 2)]
    return result


def metro_shares(folder: Path, kind: str, train: bool) -> dict[str, float]:
    """Percentage of METRO's time by stage."""
    metro = MetroRows(folder, kind, KINDS[kind].spec, train=train)
    metro.stages = Stages()
    for _ in range(4):
        for row in range(_ROWS):
            metro.sample(row)
    total = sum(metro.stages.seconds.values())
    return {name: round(100 * value / total, 1) for name, value in metro.stages.seconds.items()}


def peak_memory(kind: str, rows: int) -> dict[str, float]:
    """Peak resident memory of a process that reads `rows` rows in batches, in MB."""
    from metro_ray.data.bad_rows import BadRows
    from metro_ray.data.loader import LocalLoader
    from metro_ray.data.plan import EpochPlan

    spec = KINDS[kind].spec
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset(write_rows(Path(folder), kind, rows), spec)
        loader = LocalLoader(
            dataset,
            SampleTransform(spec, train=True, crop_mode="fast"),
            EpochPlan(num_rows=rows, batch_size=_BATCH),
            bad_rows=BadRows(0),
        )
        seen = sum(batch.num_rows for batch in loader)
    assert seen == rows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": rows, "peak_mb": round(peak, 1)}


def measure_memory(num_rows: int) -> list[dict[str, object]]:
    """`peak_memory` of N and 8 N rows, each in a process of its own."""
    results = []
    for kind in KINDS:
        for rows in (num_rows, 8 * num_rows):
            command = [sys.executable, __file__, "--peak", kind, str(rows)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append({"kind": kind} | json.loads(done.stdout))
    return results


def measure_rows(rounds: int) -> dict[str, object]:
    """All kinds of rows in training and evaluation."""
    results, shares, crops = [], {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in KINDS:
            write_rows(folder, kind, _ROWS)
        for kind in KINDS:
            if kind != "baked":
                crops[kind] = check_crops(folder / f"{kind}.yaml", KINDS[kind].spec, 4)
                shares[kind] = metro_shares(folder, kind, train=True)
            for train in (True, False):
                case = {"rows": kind, "kb": round(bytes_per_row(folder, kind) / 1000)}
                case |= {"mode": "training" if train else "evaluation"}
                results.append(case | measure(contestants(folder, kind, train), rounds))
    return {
        "results": results,
        "metro_shares_percent": shares,
        "largest_difference_of_metro_crops": crops,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", type=int, metavar="ROWS", help="peak memory of N and 8 N rows")
    parser.add_argument("--peak", nargs=2, metavar=("KIND", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if args.peak:
        print(json.dumps(peak_memory(args.peak[0], int(args.peak[1]))))
        return
    found = {"memory": measure_memory(args.memory)} if args.memory else measure_rows(args.rounds)
    machine = about("opencv-python", "simplejpeg", "pybase64", "numpy", "torch")
    save(found | {"machine": machine}, args.out)


if __name__ == "__main__":
    main()
