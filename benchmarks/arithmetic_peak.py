"""What a CPU gives at most: convolutions and matrix products in float32 and in bfloat16.

    python benchmarks/arithmetic_peak.py --out benchmarks/results/arithmetic_peak.json

No program that spends its time in them gains more from bfloat16 than these ratios say. Shapes are
those of HRNet-W64 at 224 px and of the first transformer encoder, batches of 8 images.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from about import about, save

_BATCH = 8
_CONVOLUTIONS = ((64, 56), (128, 28), (256, 14), (512, 7))
"""Channels and side of the maps of the four resolutions; kernels are 3 x 3."""
_TOKENS = 445
_PRODUCTS = ((1024, 1024), (1024, 4096), (4096, 1024))
"""Input and output width of the linear maps."""


def best_seconds(run, seconds):
    """The fastest of as many runs as fit into the time: others can only slow one down."""
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return best


def rates(run, operations, seconds):
    """GFLOP/s of `run(type, memory format)` in each arithmetic."""
    kinds = {
        "fp32 channels first": (torch.float32, torch.contiguous_format),
        "fp32 channels last": (torch.float32, torch.channels_last),
        "bf16 channels last": (torch.bfloat16, torch.channels_last),
    }
    return {
        name: operations / best_seconds(run(*kind), seconds) / 1e9 for name, kind in kinds.items()
    }


def convolution(channels, side):
    def prepare(kind, layout):
        image = torch.randn(_BATCH, channels, side, side).to(kind, memory_format=layout)
        weight = torch.randn(channels, channels, 3, 3).to(kind, memory_format=layout)
        return lambda: F.conv2d(image, weight, padding=1)

    return prepare, 2 * _BATCH * channels * channels * 9 * side * side


def product(width_in, width_out):
    def prepare(kind, layout):
        tokens = torch.randn(_BATCH * _TOKENS, width_in, dtype=kind)
        weight = torch.randn(width_out, width_in, dtype=kind)
        return lambda: F.linear(tokens, weight)

    return prepare, 2 * _BATCH * _TOKENS * width_in * width_out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cases = {f"conv {c} x {s} px": convolution(c, s) for c, s in _CONVOLUTIONS}
    cases |= {f"linear {i} to {o}": product(i, o) for i, o in _PRODUCTS}
    found = {}
    with torch.inference_mode():
        for name, (run, operations) in cases.items():
            found[name] = {k: round(v) for k, v in rates(run, operations, args.seconds).items()}
            print(name, found[name], flush=True)
    report = {
        "gflop_per_second": found,
        "bf16_over_fp32": {
            name: round(row["bf16 channels last"] / row["fp32 channels last"], 2)
            for name, row in found.items()
        },
        "torch_threads": args.threads,
        "machine": about("torch"),
    }
    save(report, args.out)


if __name__ == "__main__":
    main()
