"""What a training run says while it runs: METRO's progress line."""

from __future__ import annotations

import datetime
import resource
import sys
from collections.abc import Mapping, Sequence
from math import nan

import torch

from metro_ray.training.sources import sources_text


def progress_line(
    values: Mapping[str, float],
    *,
    epoch: int,
    step: int,
    seconds_left: float,
    source_names: Sequence[str] = (),
) -> str:
    """METRO's training line, then images a second, the wait for data, and losses by source.

    METRO's "compute" is the whole step and "data" the wait within it. METRO averages from the
    start of the run and on rank 0; here a line averages the steps since the line before it, and
    the ranks; the memory is that of the rank that uses most. Of several ranks the one that waits
    most is named.

    Args:
        values: `train/*` of `merged_values`, and "train/lr"; without losses if no step counted.
        epoch: METRO's number, see `schedule.metro_epoch`.
        step: Steps so far.
        seconds_left: Estimate for the rest of the run.
        source_names: Sources to name.
    """
    eta = datetime.timedelta(seconds=int(seconds_left))
    mean, most = values["train/data_wait_share"], values["train/data_wait_share_max"]
    slowest = f" (rank {values['train/data_wait_max_rank']:.0f}: {most:.1%})"
    by_source = sources_text(values, source_names, "train/source/")
    return (
        f"eta: {eta} epoch: {epoch} iter: {step} max mem : {values['train/max_memory_mib']:.0f}"
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
