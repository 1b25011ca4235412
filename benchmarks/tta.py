"""Time and memory of an image's 95 views in one pass, beside 95 plain predictions of the network.

    python benchmarks/tta.py --rounds 2 --out benchmarks/results/tta.json

`metro` is this network as METRO predicts with it: float32, channels-first, the views one after the
other in batches of 8 (METRO's batches are of 8 images under one view; for the network that is the
same), each crop made from a freshly decoded image. The others are the one pass of a prediction job.
All of them do everything from the encoded image to the fused mesh. `--views N` takes N of the
views only, for machines on which 95 take minutes. Each measurement is a process of
its own, so that its peak memory is its own; the order is reversed from round to round. Beside the
clock stands CPU time, which other programs on the machine disturb less, and the load.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from about import about, save

from metro_ray.bodies import load_body
from metro_ray.config.load import load_config
from metro_ray.data.rows import Row
from metro_ray.evaluation.tta import PLAIN_VIEW, ViewFusion, fused_views, metro_views, single_view
from metro_ray.evaluation.tta_pass import ViewLoader, ViewPredictor
from metro_ray.models.optimise import optimised
from metro_ray.training.builders import build_model

VARIANTS = {
    "metro": {},
    "fp32": {"precision": "fp32", "channels_last": True, "batch_size": 32},
    "bf16": {"precision": "bf16", "channels_last": True, "batch_size": 32},
    "bf16 fast crop": {
        "precision": "bf16",
        "channels_last": True,
        "batch_size": 32,
        "crop_mode": "fast",
    },
}


def make_row(number, spec):
    """An image of FreiHAND's size with its box."""
    rng = np.random.default_rng(number)
    image = cv2.resize(rng.integers(0, 256, (14, 14, 3), np.uint8), (224, 224))
    joints = len(spec.label_joints)
    label = {
        "center": [112.0, 112.0],
        "scale": 0.9,
        "2d_joints": np.zeros((joints, 3)),
        "has_2d_joints": 0,
        "3d_joints": np.zeros((joints, 4)),
        "has_3d_joints": 0,
        "pose": np.zeros(spec.num_pose),
        "betas": np.zeros(spec.num_betas),
        "has_smpl": 0,
        "has_mesh": 0,
        "body_model": spec.name,
    }
    data = cv2.imencode(".jpg", image)[1].tobytes()
    return Row(key=f"{number}.jpg", image_bytes=data, label=label, hw=None, source=0)


def some_views(count):
    """The plain view and every n-th of METRO's others."""
    others = [view for view in metro_views() if view != PLAIN_VIEW]
    return (PLAIN_VIEW, *others[:: max(1, len(others) // (count - 1))][: count - 1])


def separate_passes(model, body, row, views):
    """A pass for each view, over crops of its own, then their fusion."""
    predict = ViewPredictor(model, body, single_view(), batch_size=8)
    crops = [ViewLoader(body.spec, single_view(view))(row) for view in views]
    meshes = predict(np.stack(crops))
    pairs = list(zip(*map(torch.from_numpy, meshes), strict=True))
    plain = pairs[views.index(PLAIN_VIEW)]
    fusion = ViewFusion(plain[0][None], plain[1][None])
    for joints, vertices in pairs:
        fusion.add(joints[None], vertices[None])
    return fusion.result().vertices[0].numpy()


def measure(name, arch, num_images, num_views):
    """One process: a few crops to warm up, then whole images."""
    body = load_body("anny_hand")
    torch.manual_seed(0)
    settings = {
        "model.arch": arch,
        "model.backbone_init": "shortcut",
        "model.output_init": "template",
    }
    model = build_model(load_config("hand", overrides=settings), body).eval()
    rows = [make_row(number, body.spec) for number in range(num_images)]
    started_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    options = dict(VARIANTS[name])
    if options.get("precision") == "bf16":
        model = optimised(model, "bf16")  # as a prediction job does
    views = some_views(num_views)
    load = ViewLoader(body.spec, fused_views(views), crop_mode=options.pop("crop_mode", "metro"))
    warm_up = np.zeros((1, 8, 3, 224, 224), np.uint8)
    ViewPredictor(model, body, fused_views(views[:8]), **options)(warm_up)
    predict = ViewPredictor(model, body, load.plan, **options)
    clock, cpu, found = [], [], []
    for row in rows:
        started, used = time.perf_counter(), time.process_time()
        if name == "metro":
            found.append(separate_passes(model, body, row, views))
        else:
            found.append(predict(load(row)[None]).vertices[0])
        clock.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return {
        "seconds": clock,
        "cpu_seconds": cpu,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "peak_gib_before_predicting": started_peak,
        "vertices_mm": [(1000 * mesh[::50]).tolist() for mesh in found],
    }


def crop_seconds(num_images=3):
    """What making the 95 crops of an image costs, decoding once included."""
    spec = load_body("anny_hand").spec
    result = {}
    for mode in ("metro", "fast"):
        load = ViewLoader(spec, fused_views(metro_views()), crop_mode=mode)
        load(make_row(99, spec))
        started = time.process_time()
        for number in range(num_images):
            load(make_row(number, spec))
        result[mode] = (time.process_time() - started) / num_images
    return result


def child(*arguments):
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def summary(runs):
    """Medians over all images of a variant, what they are of METRO's, and how far meshes differ."""
    reference = np.array(runs["metro"][0]["vertices_mm"])
    rows = {}
    for name, measured in runs.items():
        rows[name] = {
            "seconds_per_image": statistics.median(s for run in measured for s in run["seconds"]),
            "cpu_seconds_per_image": statistics.median(
                s for run in measured for s in run["cpu_seconds"]
            ),
            "peak_gib": max(run["peak_gib"] for run in measured),
            "max_difference_mm": float(
                np.abs(np.array(measured[0]["vertices_mm"]) - reference).max()
            ),
        }
    for row in rows.values():
        row["speed_by_cpu_time"] = (
            rows["metro"]["cpu_seconds_per_image"] / row["cpu_seconds_per_image"]
        )
        row["speed_by_clock"] = rows["metro"]["seconds_per_image"] / row["seconds_per_image"]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="hrnet-w64")
    parser.add_argument("--images", type=int, default=1, help="in each process")
    parser.add_argument("--views", type=int, default=95, help="of each image, METRO's 95")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.arch, arguments.images, arguments.views)))
        return 0
    sizes = ["--arch", arguments.arch]
    sizes += ["--images", str(arguments.images), "--views", str(arguments.views)]
    variants = [name for name in VARIANTS if name == "metro" or name in arguments.variants]
    runs, load = {name: [] for name in variants}, []
    for number in range(arguments.rounds):
        for name in variants[:: -1 if number % 2 else 1]:
            load.append(os.getloadavg()[0])
            runs[name].append(child("--one", name, *sizes))
            times = {key: runs[name][-1][key] for key in ("seconds", "cpu_seconds", "peak_gib")}
            print(name, times, f"load before {load[-1]:.1f}", file=sys.stderr)
    result = {
        "arch": arguments.arch,
        "views": arguments.views,
        "summary": summary(runs),
        "crop_cpu_seconds_per_image": crop_seconds(),
        "runs": {
            name: [{k: v for k, v in run.items() if k != "vertices_mm"} for run in measured]
            for name, measured in runs.items()
        },
        "load_average_before_each": load,
        "torch_threads": torch.get_num_threads(),
        "machine": about("torch"),
    }
    save(result, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
