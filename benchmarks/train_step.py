"""Time and memory of a training step beside METRO's way of making it, on the CPU.

    python benchmarks/train_step.py --rounds 3 --out benchmarks/results/train_step.json

`metro` is this network (so without what METRO carries but never trains) as METRO runs it: float32,
images and weights channels-first, Adam one tensor after the other. The others switch on what this
package has. Each measurement is a process of its own, so that its peak memory is its own; the order
of the variants is reversed from round to round. Ratios are of the least CPU time of a step: other
programs on the machine can only add to it. Threads that wait for each other burn CPU time where
cores are shared, so `--threads 1` on a machine that is not idle. The load is noted.

`--losses` compares what bf16 and float32 have learned after 50 steps on a small network instead.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from metro_ray.bodies import load_body
from metro_ray.config.load import load_config
from metro_ray.data.sample import blank_sample, collate
from metro_ray.training.builders import build_model, loss_weights
from metro_ray.training.step import TrainStep, make_optimizer, seed_step

_WARM_UP = 1
CHANNELS_FIRST = {"optim.channels_last": False}
VARIANTS = {
    "metro": CHANNELS_FIRST,
    "fp32": {},
    "bf16": {"optim.precision": "bf16"},
    "fp32 recompute": {"model.recompute": "all"},
    "bf16 recompute": {"optim.precision": "bf16", "model.recompute": "all"},
}
SMALL = {
    "model.arch": "hrnet-w18-small",
    "model.input_feat_dim": (2051, 128, 64),
    "model.hidden_feat_dim": (128, 64, 64),
    "model.num_hidden_layers": 2,
    "model.output_init": "template",
    "model.upsampling_init": "topology",
}


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


def make_step(body, settings, *, fused=True):
    config = load_config("body", overrides={"model.mesh": "anny_body", **settings})
    torch.manual_seed(0)
    model = build_model(config, body)
    if config.optim.channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config.optim.lr)
    if not fused:
        groups = [dict(group, fused=False, foreach=False) for group in optimizer.param_groups]
        optimizer = torch.optim.Adam(groups)
    return TrainStep(
        model=model,
        body=body,
        optimizer=optimizer,
        device=torch.device("cpu"),
        weights=loss_weights(config, body.spec),
        precision=config.optim.precision,
        channels_last=config.optim.channels_last,
    )


def measure(name, arch, num_rows, num_steps):
    """One process: a step to warm up, then those that count."""
    body = load_body("anny_body")
    settings = {"model.arch": arch, **VARIANTS[name]}
    step = make_step(body, settings, fused=name != "metro")
    batch = make_batch(body, num_rows)
    for _ in range(_WARM_UP):
        step.run([batch], lr=1e-4)
    clock, cpu = [], []
    for _ in range(num_steps):
        started, used = time.perf_counter(), time.process_time()
        assert step.run([batch], lr=1e-4).applied
        clock.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": clock, "cpu_seconds": cpu, "peak_gib": peak}


def compare_losses(num_steps=50, num_rows=4):
    """Mean loss of the last ten steps of both precisions, from the same start and draws."""
    body = load_body("anny_body")
    batches = [make_batch(body, num_rows)]
    curves = {}
    for precision in ("fp32", "bf16"):
        step = make_step(body, {**SMALL, "optim.precision": precision})
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
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def summary(runs, num_rows):
    """The best step of a variant, and what it is of METRO's."""
    rows = {}
    for name, measured in runs.items():
        seconds = min(s for run in measured for s in run["seconds"])
        rows[name] = {
            "seconds": seconds,
            "cpu_seconds": min(s for run in measured for s in run["cpu_seconds"]),
            "images_per_second": num_rows / seconds,
            "peak_gib": max(run["peak_gib"] for run in measured),
        }
    for row in rows.values():
        row["speed_by_cpu_time"] = rows["metro"]["cpu_seconds"] / row["cpu_seconds"]
        row["speed_by_clock"] = rows["metro"]["seconds"] / row["seconds"]
        row["memory"] = row["peak_gib"] / rows["metro"]["peak_gib"]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="hrnet-w64")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2, help="that count, in each process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--losses", action="store_true", help="compare bf16 with float32 only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    threads = ("--threads", str(arguments.threads))
    if arguments.one or arguments.losses:
        size = (arguments.arch, arguments.batch, arguments.steps)
        print(json.dumps(measure(arguments.one, *size) if arguments.one else compare_losses()))
        return 0
    sizes = ("--arch", arguments.arch, "--batch", str(arguments.batch), *threads)
    runs, load = {name: [] for name in VARIANTS}, []
    for number in range(arguments.rounds):
        for name in list(VARIANTS)[:: -1 if number % 2 else 1]:
            load.append(os.getloadavg()[0])
            runs[name].append(child("--one", name, *sizes, "--steps", str(arguments.steps)))
            print(name, runs[name][-1], f"load before {load[-1]:.1f}", file=sys.stderr)
    result = {
        "arch": arguments.arch,
        "batch": arguments.batch,
        "summary": summary(runs, arguments.batch),
        "losses": child("--losses", *threads),
        "runs": runs,
        "load_average_before_each": load,
        "torch_threads": torch.get_num_threads(),
        "cpu": _cpu_name(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")
    return 0


def _cpu_name():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
