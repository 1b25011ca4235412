"""What computes a served network fastest on this CPU: PyTorch as it is, compiled, or ONNX Runtime.

    python benchmarks/runtimes.py --archs hrnet-w64 --out benchmarks/results/runtimes.json

Each is what `metro-ray serve` runs: BatchNorm folded, channels-last, halves converted once. `plain`
is the network as it was trained, float32, channels-first, which the others are set beside. They
take turns, round by round, in one process; a figure is the least time of its rounds.
"""

import argparse
import math
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from about import about, save

from metro_ray.bodies import load_body
from metro_ray.config.load import load_config
from metro_ray.inference.predictor import Predictor
from metro_ray.serve.network import ServedNetwork
from metro_ray.serve.settings import read_args
from metro_ray.training.builders import build_model
from metro_ray.training.checkpoint import save_checkpoint
from metro_ray.training.checkpoint_meta import CheckpointMeta

CANDIDATES = {
    "torch fp32": {"precision": "fp32"},
    "torch bf16": {"precision": "bf16"},
    "torch fp32 compiled": {"precision": "fp32", "compile": True},
    "torch bf16 compiled": {"precision": "bf16", "compile": True},
    "onnxruntime fp32": {"runtime": "onnxruntime"},
}


def write_checkpoint(folder: Path, overrides: dict[str, object], seed: int = 0) -> Path:
    """A body network of random weights, seen by a camera that has people before it."""
    config = load_config("body", overrides={"model.mesh": "anny_body", **overrides})
    torch.manual_seed(seed)
    model = build_model(config, load_body("anny_body"))
    with torch.no_grad():
        for layer in (model.camera.per_token, model.camera.over_tokens, model.camera.output):
            layer.weight.mul_(0.1)
        model.camera.output.bias.copy_(torch.tensor([0.9, 0.0, 0.0]))
    meta = CheckpointMeta(config=asdict(config), mesh="anny_body", epoch=1, step=1 + seed)
    optimizer = torch.optim.SGD(model.parameters())
    found, _ = save_checkpoint(folder, model, optimizer, meta, metric=("loss", 1.0), keep=1)
    return found


def start(checkpoint: Path, settings: dict[str, object], arguments: argparse.Namespace):
    """A warm network of these settings, and how long that took."""
    common = {
        "checkpoint": str(checkpoint),
        "cpus": arguments.threads,
        "max_batch_size": max(arguments.batches),
    }
    began = time.perf_counter()
    network = ServedNetwork(
        checkpoint, "body", read_args({"body": common | settings}).models["body"]
    )
    network.warm_up()
    return network.predict, time.perf_counter() - began


def measure(checkpoint: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Seconds an image of each candidate, by batch."""
    runs, started = {}, {}
    runs["plain"] = Predictor.from_checkpoint(checkpoint, precision="fp32").predict_arrays
    for name in arguments.candidates:
        runs[name], seconds = start(checkpoint, CANDIDATES[name], arguments)
        started[name] = round(seconds, 1)
        print(f"{name} is ready after {seconds:.0f} s", flush=True)
    least = {name: dict.fromkeys(arguments.batches, math.inf) for name in runs}
    for _ in range(arguments.rounds):
        for size in arguments.batches:
            crops = np.random.default_rng(0).integers(0, 256, (size, 3, 224, 224), np.uint8)
            for name, run in runs.items():
                began = time.perf_counter()
                run(crops)
                taken = (time.perf_counter() - began) / size
                least[name][size] = min(least[name][size], taken)
    return {
        "seconds_to_start": started,
        "seconds_an_image": {
            name: {size: round(value, 4) for size, value in values.items()}
            for name, values in least.items()
        },
        "times_plain": {
            name: {size: round(least["plain"][size] / value, 2) for size, value in values.items()}
            for name, values in least.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archs", default="hrnet-w64")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--candidates", default=",".join(CANDIDATES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.batches = [int(size) for size in arguments.batches.split(",")]
    arguments.candidates = arguments.candidates.split(",")
    torch.set_num_threads(arguments.threads)
    result = {"machine": about("torch", "onnxruntime"), "threads": arguments.threads, "archs": {}}
    for arch in arguments.archs.split(","):
        with tempfile.TemporaryDirectory() as folder:
            result["archs"][arch] = measure(
                write_checkpoint(Path(folder), {"model.arch": arch}), arguments
            )
    save(result, arguments.out)


if __name__ == "__main__":
    main()
