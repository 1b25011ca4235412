"""What a training run says while it runs: averages of an interval, and METRO's progress line."""

from __future__ import annotations

import datetime
import resource
import sys
from collections.abc import Mapping, Sequence
from math import nan
from typing import NamedTuple

import torch

from metro_ray.training.sources import SourceSums, add_sources, sources_text
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
        self.losses: dict[str, float] = {}
        """Sums of loss x weight."""
        self.weight = 0
        self.sources: list[SourceSums] = []
        """Of each source; empty where there is only one."""

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
        self.weight += weight
        self.sources = add_sources(self.sources, losses.sources)
        named = {
            "loss": losses.total,
            "grad_norm": losses.grad_norm,
            "loss_joints_3d": losses.joints_3d,
            "loss_keypoints_2d": losses.keypoints_2d,
            "loss_vertices": losses.vertices,
            **{f"term/{name}": value for name, value in losses.terms.items()},
        }
        for name, value in named.items():
            self.losses[name] = self.losses.get(name, 0.0) + weight * value

    @property
    def wait_share(self) -> float:
        """Part of the time that went into waiting for data."""
        return self.wait_seconds / max(self.seconds, 1e-9)


def merged_values(ranks: Sequence[Interval]) -> dict[str, float]:
    """The same steps of all ranks: means of losses over rows, of times over ranks.

    `*_max` is the rank that waits most for data, `data_wait_max_rank` its number.
    """
    weight = sum(rank.weight for rank in ranks)
    steps = max(sum(rank.num_steps for rank in ranks), 1)
    seconds = sum(rank.seconds for rank in ranks)
    waited = sum(rank.wait_seconds for rank in ranks)
    images = sum(rank.num_images for rank in ranks)
    slowest = max(range(len(ranks)), key=lambda rank: ranks[rank].wait_share)
    names = list(dict.fromkeys(name for rank in ranks for name in rank.losses))
    losses = {name: sum(rank.losses.get(name, 0.0) for rank in ranks) / weight for name in names}
    return {
        **losses,
        "skipped_steps": float(ranks[0].num_skipped),
        "rows": float(images),
        "step_seconds": seconds / steps,
        "data_seconds": waited / steps,
        "images_per_second": len(ranks) * images / max(seconds, 1e-9),
        "data_wait_seconds": waited / len(ranks),
        "data_wait_seconds_max": ranks[slowest].wait_seconds,
        "data_wait_share": waited / max(seconds, 1e-9),
        "data_wait_share_max": ranks[slowest].wait_share,
        "data_wait_max_rank": float(slowest),
    }


def progress_line(
    values: Mapping[str, float],
    *,
    epoch: int,
    step: int,
    seconds_left: float,
    memory_mib: float,
    source_names: Sequence[str] = (),
) -> str:
    """METRO's training line, then images a second, the wait for data, and losses by source.

    METRO's "compute" is the whole step and "data" the wait within it. METRO averages from the
    start of the run and on rank 0; here a line averages the steps since the line before it, and
    the ranks. Of several ranks the one that waits most is named.

    Args:
        values: `train/*` of `merged_values`, and "train/lr"; without losses if no step counted.
        epoch: METRO's number, see `schedule.metro_epoch`.
        step: Steps so far.
        seconds_left: Estimate for the rest of the run.
        memory_mib: See `max_memory_mib`.
        source_names: Sources to name.
    """
    eta = datetime.timedelta(seconds=int(seconds_left))
    mean, most = values["train/data_wait_share"], values["train/data_wait_share_max"]
    slowest = f" (rank {values['train/data_wait_max_rank']:.0f}: {most:.1%})"
    by_source = sources_text(values, source_names, "train/source/")
    return (
        f"eta: {eta} epoch: {epoch} iter: {step} max mem : {memory_mib:.0f}"
        f"  loss: {values.get('train/loss', nan):.4f}, "
        f"2d joint loss: {values.get('train/loss_keypoints_2d', nan):.4f}, "
        f"3d joint loss: {values.get('train/loss_joints_3d', nan):.4f}, "
        f"vertex loss: {values.get('train/loss_vertices', nan):.4f}, "
        f"compute: {values['train/step_seconds']:.4f}, data: {values['train/data_seconds']:.4f}, "
        f"lr: {values['train/lr']:.6f}, images/s: {values['train/images_per_second']:.1f}, "
        f"data wait: {100 * mean:.1f} %{slowest.replace('%', ' %') if most > mean else ''}"
        f"{', ' if by_source else ''}{by_source}"
    )


def max_memory_mib(device: torch.device) -> float:
    """Most memory in use so far, MiB: of the GPU's allocator, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
