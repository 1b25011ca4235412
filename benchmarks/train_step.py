"""Time and memory of a training step beside METRO's way of making it, on the CPU or on a GPU.

    python benchmarks/train_step.py --rounds 3 --out benchmarks/results/train_step.json
    python benchmarks/train_step.py --device cuda --batch 30 --steps 20 --out train_step_gpu.json

`metro` is this network (so without what METRO carries but never trains) as METRO runs it: float32
without TF32, images and weights channels-first, Adam one tensor after the other, PyTorch's own
dropout, memory as the C library manages it. The others are steps as this package's training makes
them. Each measurement is a process of its own, so that its peak memory is its own; the order of the
variants is reversed from round to round.

CPU: ratios are of the least time of a step, by the clock and of the CPU, as other programs on the
machine can only add to it, and of the median step, which pays for what a step costs now and then.
Threads that wait for each other burn CPU time where cores are shared, so `--threads 1` on a machine
that is not idle. The load is noted.

GPU: ratios are of the least time of a step; memory is what PyTorch's allocator held at most, once
with the batch and once with half of it, whose difference is the memory of a sample. Operations are
counted in the step (`torch.utils.flop_counter`), and their rate is set beside that of large matrix
products in the same arithmetic on the same GPU, and with `--peak-tflops` beside its data sheet.

`--losses` compares what bf16 and float32 have learned after 50 steps on a small network instead.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from about import about, save
from step_counts import count_operations, product_tflops, sent_bytes

from metro_ray import models
from metro_ray.bodies import load_body
from metro_ray.config.load import load_config
from metro_ray.data.sample import blank_sample, collate
from metro_ray.training.arithmetic import arithmetic
from metro_ray.training.builders import build_model, loss_weights, prepare_model
from metro_ray.training.context import LocalWorker
from metro_ray.training.heap import keeping_freed_memory
from metro_ray.training.step import TrainStep, make_optimizer, seed_step

_WARM_UP = {"cpu": 3, "cuda": 5}
CHANNELS_FIRST = {"optim.channels_last": False}
BF16 = {"optim.precision": "bf16"}
VARIANTS = {
    "cpu": {
        "metro": CHANNELS_FIRST,
        "fp32": {},
        "bf16": BF16,
        "fp32 recompute": {"model.recompute": "all"},
        "bf16 recompute": {**BF16, "model.recompute": "all"},
    },
    "cuda": {
        "metro": CHANNELS_FIRST,
        "fp32": {},
        "tf32": {"optim.tf32": True},
        "bf16": BF16,
        "bf16 compile": {**BF16, "optim.compile": "default"},
        "bf16 recompute": {**BF16, "model.recompute": "all"},
    },
}
SMALL = {
    "model.arch": "hrnet-w18-small",
    "model.input_feat_dim": (2051, 128, 64),
    "model.hidden_feat_dim": (128, 64, 64),
    "model.num_hidden_layers": 2,
    "model.output_init": "template",
    "model.upsampling_init": "topology",
}


def make_config(settings):
    return load_config("body", overrides={"model.mesh": "anny_body", **settings})


def make_batch(body, num_rows):
    """Noise for pictures, people in random poses for labels."""
    spec, samples = body.spec, []
    for row in range(num_rows):
        rng = np.random.default_rng(row)
        pose = rng.normal(0, 0.2, spec.num_pose).astype(np.float32)
        joints = np.ones((len(spec.label_joints), 4), np.float32)
        joints[:, :3] = rng.uniform(-0.5, 0.5, (len(joints), 3))
        sample = blank_sample(spec, row)._replace(
            image=rng.integers(0, 256, (3, 224, 224), np.uint8),
            pose=pose,
            betas=body.neutral_betas.numpy().astype(np.float32),
            joints_3d=joints,
            has_mesh=np.bool_(True),
            has_joints_3d=np.bool_(True),
            valid=np.bool_(True),
        )
        samples.append(sample)
    return collate(samples)


def make_step(body, config, device, *, fused=True):
    torch.manual_seed(0)
    model = build_model(config, body)
    wrapped = prepare_model(model, config, LocalWorker(device))
    optimizer = make_optimizer(model, config.optim.lr)
    if not fused:
        groups = [dict(group, fused=False, foreach=False) for group in optimizer.param_groups]
        optimizer = torch.optim.Adam(groups)
    return TrainStep(
        model=wrapped,
        body=body.to(device),
        optimizer=optimizer,
        device=torch.device(device),
        weights=loss_weights(config, body.spec),
        precision=config.optim.precision,
        channels_last=config.optim.channels_last,
    )


def measure(name, arch, num_rows, num_steps, device):
    """One process: steps to warm up, then those that count."""
    body = load_body("anny_body")
    config = make_config({"model.arch": arch, **VARIANTS[device][name]})
    batch = make_batch(body, num_rows)
    memory = nullcontext() if name == "metro" else keeping_freed_memory(torch.device(device))
    if name == "metro":
        models.dropout.dropout = models.encoder.dropout = F.dropout
    with arithmetic(config.optim), memory:
        step = make_step(body, config, device, fused=name != "metro")
        found = timed(step, batch, num_steps, device)
        if device == "cuda":
            half = timed(step, make_batch(load_body("anny_body"), num_rows // 2), 2, device)
            per_sample = (found["peak_gib"] - half["peak_gib"]) / (num_rows - num_rows // 2)
            found["mib_per_sample"] = 1024 * per_sample
            found["product_tflops"] = product_tflops(config.optim.precision)
        if name == "metro":
            found |= {"operations": count_operations(step, batch)}
            found |= sent_bytes(step.model)
    return found


def timed(step, batch, num_steps, device):
    """Seconds of each step and the most memory that was in use."""
    for _ in range(_WARM_UP[device]):
        step.run([batch], lr=1e-4)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    clock, cpu = [], []
    for _ in range(num_steps):
        started, used = time.perf_counter(), time.process_time()
        assert step.run([batch], lr=1e-4).applied
        if device == "cuda":
            torch.cuda.synchronize()  # Adam is queued behind those numbers
        clock.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    return {"seconds": clock, "cpu_seconds": cpu, "peak_gib": peak / 2**30}


def compare_losses(device, num_steps=50, num_rows=4):
    """Mean loss of the last ten steps of both precisions, from the same start and draws."""
    body = load_body("anny_body")
    batches = [make_batch(body, num_rows)]
    curves = {}
    for precision in ("fp32", "bf16"):
        config = make_config({**SMALL, "optim.precision": precision})
        with arithmetic(config.optim):
            step = make_step(load_body("anny_body"), config, device)
            curve = []
            for number in range(1, num_steps + 1):
                seed_step(0, number, 0)
                curve.append(step.run(batches, lr=1e-4).total)
        curves[precision] = curve
    last = {name: statistics.mean(curve[-10:]) for name, curve in curves.items()}
    return {
        "steps": num_steps,
        "first": {name: curve[0] for name, curve in curves.items()},
        "mean_of_last_10": last,
        "bf16_over_fp32": last["bf16"] / last["fp32"],
    }


def child(*arguments):
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def summary(runs, num_rows, device, peak_tflops):
    """The best and the median step of a variant, and what they are of METRO's."""
    rows = {}
    operations = runs["metro"][0]["operations"]
    for name, measured in runs.items():
        seconds = min(s for run in measured for s in run["seconds"])
        rate = operations / seconds / 1e12
        rows[name] = {
            "seconds": seconds,
            "median_seconds": statistics.median(s for run in measured for s in run["seconds"]),
            "cpu_seconds": min(s for run in measured for s in run["cpu_seconds"]),
            "images_per_second": num_rows / seconds,
            "tflop_per_second": rate,
            "peak_gib": max(run["peak_gib"] for run in measured),
        }
        if device == "cuda":
            kind = next((k for k in ("bf16", "tf32") if k in name), "fp32")
            reached = max(run["product_tflops"] for run in measured)
            rows[name]["mib_per_sample"] = measured[0]["mib_per_sample"]
            rows[name]["share_of_matrix_products"] = rate / reached
            rows[name]["mfu"] = rate / peak_tflops[kind] if kind in peak_tflops else None
    for row in rows.values():
        row["speed_by_cpu_time"] = rows["metro"]["cpu_seconds"] / row["cpu_seconds"]
        row["speed_by_clock"] = rows["metro"]["seconds"] / row["seconds"]
        row["speed_by_median"] = rows["metro"]["median_seconds"] / row["median_seconds"]
        row["memory"] = row["peak_gib"] / rows["metro"]["peak_gib"]
    return rows


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=VARIANTS, default="cpu")
    parser.add_argument("--arch", default="hrnet-w64")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2, help="that count, in each process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--peak-tflops",
        default="",
        metavar="fp32=67,tf32=495,bf16=989",
        help="of the GPU's data sheet, dense",
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--losses", action="store_true", help="compare bf16 with float32 only")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    device = arguments.device
    torch.set_num_threads(arguments.threads)
    common = ("--threads", str(arguments.threads), "--device", device)
    if arguments.one or arguments.losses:
        size = (arguments.arch, arguments.batch, arguments.steps, device)
        print(
            json.dumps(measure(arguments.one, *size) if arguments.one else compare_losses(device))
        )
        return 0
    peaks = dict(pair.split("=") for pair in arguments.peak_tflops.split(",") if pair)
    sizes = ("--arch", arguments.arch, "--batch", str(arguments.batch), *common)
    runs, load = {name: [] for name in VARIANTS[device]}, []
    for number in range(arguments.rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            load.append(os.getloadavg()[0])
            runs[name].append(child("--one", name, *sizes, "--steps", str(arguments.steps)))
            print(name, runs[name][-1], f"load before {load[-1]:.1f}", file=sys.stderr)
    base = runs["metro"][0]
    result = {
        "arch": arguments.arch,
        "batch": arguments.batch,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "summary": summary(
            runs, arguments.batch, device, {kind: float(peak) for kind, peak in peaks.items()}
        ),
        "operations_of_a_step": base["operations"],
        "all_reduced_bytes": base["all_reduced_bytes"],
        "all_reduced_bytes_metro": base["all_reduced_bytes_metro"],
        "losses": child("--losses", *common),
        "runs": runs,
        "load_average_before_each": load,
        "torch_threads": torch.get_num_threads(),
        "machine": about("torch"),
    }
    save(result, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
