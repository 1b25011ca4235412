"""What a training run says while it runs: averages of an interval, and METRO's progress line."""

from __future__ import annotations

import datetime
import resource
import sys
from collections import defaultdict
from math import nan
from typing import NamedTuple

import torch

from metro_ray.training.step import StepLosses


class StepTiming(NamedTuple):
    """How long one step of one rank took."""

    seconds: float
    """All of it, the wait for its batch included."""
    wait_seconds: float
    """Until the batch was there."""
    num_images: int
    """Valid rows of this rank's batch."""


class Interval:
    """Sums over some steps of one rank; losses are weighed by rows, as in METRO's meters."""

    def __init__(self) -> None:
        self.num_steps = 0
        self.seconds = 0.0
        self.wait_seconds = 0.0
        self.num_images = 0
        self.num_skipped = 0
        self._losses: defaultdict[str, float] = defaultdict(float)
        self._weight = 0

    def add(self, losses: StepLosses, timing: StepTiming) -> None:
        """Count one step; the losses of one that was left out are not averaged."""
        self.num_steps += 1
        self.seconds += timing.seconds
        self.wait_seconds += timing.wait_seconds
        self.num_images += timing.num_images
        if not losses.applied:
            self.num_skipped += 1
            return
        weight = max(timing.num_images, 1)
        self._weight += weight
        named = {
            "train/loss": losses.total,
            "train/grad_norm": losses.grad_norm,
            "train/loss_joints_3d": losses.joints_3d,
            "train/loss_keypoints_2d": losses.keypoints_2d,
            "train/loss_vertices": losses.vertices,
            **{f"train/term/{name}": value for name, value in losses.terms.items()},
        }
        for name, value in named.items():
            self._losses[name] += weight * value

    def values(self, world_size: int) -> dict[str, float]:
        """Means by metric name; images/s are those of all ranks, taken to be as fast as this."""
        steps = max(self.num_steps, 1)
        return {
            **{name: total / self._weight for name, total in self._losses.items()},
            "train/skipped_steps": float(self.num_skipped),
            "train/step_seconds": self.seconds / steps,
            "train/data_seconds": self.wait_seconds / steps,
            "train/images_per_second": world_size * self.num_images / max(self.seconds, 1e-9),
            "train/data_wait_share": self.wait_seconds / max(self.seconds, 1e-9),
        }


def progress_line(
    values: dict[str, float], *, epoch: int, step: int, seconds_left: float, memory_mib: float
) -> str:
    """METRO's training line, then images a second and the share of the time spent waiting for data.

    METRO's "compute" is the whole step and "data" the wait within it. METRO averages from the
    start of the run; here a line averages the steps since the line before it.

    Args:
        values: Of `Interval.values`, and "train/lr"; without losses if no step counted.
        epoch: METRO's number, see `schedule.metro_epoch`.
        step: Steps so far.
        seconds_left: Estimate for the rest of the run.
        memory_mib: See `max_memory_mib`.
    """
    eta = datetime.timedelta(seconds=int(seconds_left))
    return (
        f"eta: {eta} epoch: {epoch} iter: {step} max mem : {memory_mib:.0f}"
        f"  loss: {values.get('train/loss', nan):.4f}, "
        f"2d joint loss: {values.get('train/loss_keypoints_2d', nan):.4f}, "
        f"3d joint loss: {values.get('train/loss_joints_3d', nan):.4f}, "
        f"vertex loss: {values.get('train/loss_vertices', nan):.4f}, "
        f"compute: {values['train/step_seconds']:.4f}, data: {values['train/data_seconds']:.4f}, "
        f"lr: {values['train/lr']:.6f}, images/s: {values['train/images_per_second']:.1f}, "
        f"data wait: {100 * values['train/data_wait_share']:.1f} %"
    )


def max_memory_mib(device: torch.device) -> float:
    """Most memory in use so far, MiB: of the GPU's allocator, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
