"""How many trials a cluster has place for at a time.

A sweep of N trials with W ranks each takes what one run of N x W ranks takes, and is planned as
one; so the rule that keeps a single run from waiting for itself keeps a sweep from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metro_ray.cluster.resources import NodeResources, ResourcePlan
from metro_ray.errors import ResourceError

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig

PROCESS_BYTES = int(0.7 * 2**30)
"""What a rank takes beside its step: PyTorch, Ray, a few batches (measured: 0.5 to 0.7 GiB)."""
TRIAL_BYTES = int(0.8 * 2**30)
"""What Ray's own processes take for each running trial (measured: 0.7 to 0.8 GiB)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPlan:
    """How a sweep divides a cluster."""

    concurrent: int
    """Trials at a time."""
    trial: ResourcePlan
    """The share of each."""
    limit: str
    """What keeps it from being more."""

    @property
    def text(self) -> str:
        """One line for people."""
        return f"{self.concurrent} trial(s) at a time ({self.limit}), each: {self.trial.text}"


def concurrent_trials(
    nodes: Sequence[NodeResources],
    config: TrainConfig,
    *,
    wanted: int | None,
    num_trials: int,
    trial_bytes: int,
    memory_bytes: int | None,
) -> tuple[int, str]:
    """Trials at a time, and what limits them.

    Each rank of a trial takes a GPU, or where there is none a CPU.

    Args:
        nodes: CPUs and GPUs that are really there.
        config: `scaling.train_workers` (None: 1) and `run.device` are used.
        wanted: `tune.concurrent`.
        num_trials: Trials that are left.
        trial_bytes: Memory that one trial is estimated to take.
        memory_bytes: Of the machine; None where that is not known or the steps are on GPUs.

    Raises:
        ResourceError: Not one fits, or fewer than are wanted; one sentence says why.
    """
    ranks = config.scaling.train_workers or 1
    cpus, gpus = sum(node.cpus for node in nodes), int(sum(node.gpus for node in nodes))
    use_gpu = gpus > 0 and config.run.device != "cpu"
    have, unit = (gpus, "GPU(s)") if use_gpu else (int(cpus), "CPU(s)")
    fit, limit = have // ranks, f"{have} {unit} for {ranks} rank(s) each"
    if fit < 1:
        raise ResourceError(
            f"a trial of {ranks} ranks needs {ranks} {unit}, but the cluster has {have}: lower "
            "scaling.train_workers or add machines"
        )
    if memory_bytes is not None and not use_gpu:
        by_memory = int(memory_bytes // trial_bytes)
        if by_memory < fit:
            fit = max(1, by_memory)
            limit = f"{memory_bytes / 2**30:.0f} GiB of memory, some {trial_bytes / 2**30:.1f} each"
    if wanted is not None and wanted > fit:
        raise ResourceError(
            f"tune.concurrent asks for {wanted} trials at a time, but there is place for {fit} "
            f"({limit}): lower it or leave it out"
        )
    if wanted is not None:
        return min(wanted, max(1, num_trials)), "tune.concurrent"
    if num_trials < fit:
        return max(1, num_trials), f"{num_trials} trial(s) to run"
    return fit, limit


def with_ranks(config: TrainConfig, ranks: int) -> TrainConfig:
    """The settings of a run of so many ranks, all or nothing."""
    scaling = replace(config.scaling, train_workers=ranks, min_train_workers=None)
    return replace(config, scaling=scaling)


def share(plan: ResourcePlan, concurrent: int, ranks: int, num_nodes: int) -> ResourcePlan:
    """The part of one trial in the plan of a run of concurrent x ranks ranks."""
    runs = math.ceil(concurrent / max(1, num_nodes))
    return replace(plan, train_workers=ranks, runs_per_machine=runs)
