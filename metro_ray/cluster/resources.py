"""What a run takes from a cluster: how many ranks, and how many CPUs for them and for data tasks.

Ray counts logical CPUs: a rank and a read task wait until the number they ask for is free. Ranks
hold theirs for the whole run, so a plan that gives them all leaves every read task waiting for
ever. Such a plan is refused here, before anything starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from metro_ray.errors import ResourceError

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig

_MIN_DATA_CPUS = 0.05
"""Less than this is nothing; Ray counts CPUs in steps of 0.0001."""


class NodeResources(NamedTuple):
    """Logical resources of one machine of a cluster."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourcePlan:
    """How a run divides the cluster."""

    train_workers: int
    """Ranks."""
    cpus_per_worker: float
    """Logical CPUs that each rank holds."""
    gpus_per_worker: int
    """1, or 0 on the CPU."""
    data_task_cpus: float
    """Logical CPUs of one read task, at most 1."""
    concurrent_read_tasks: int
    """Read tasks of one rank at a time."""
    runs_per_machine: int = 1
    """Runs with this plan that a machine has at a time; they share its cores."""

    @property
    def use_gpu(self) -> bool:
        """Whether the ranks compute on GPUs."""
        return self.gpus_per_worker > 0

    @property
    def text(self) -> str:
        """One line for the log."""
        device = "1 GPU" if self.use_gpu else "no GPU"
        return (
            f"{self.train_workers} rank(s) with {self.cpus_per_worker:g} CPUs and {device} each, "
            f"{self.concurrent_read_tasks} read task(s) of {self.data_task_cpus:g} CPUs per rank"
        )


def plan_resources(nodes: Sequence[NodeResources], config: TrainConfig) -> ResourcePlan:
    """Divide a cluster between ranks and read tasks.

    Ranks take one GPU each where there are GPUs. They hold half of the CPUs, on GPUs at most one
    each; the rest is for read tasks, up to `data.loader_workers` per rank. With
    `scaling.min_train_workers` there are as many ranks as there is place for, from
    `scaling.train_workers` down to that.

    Args:
        nodes: The cluster.
        config: `scaling`, `run.device` and `data.loader_workers` are used.

    Raises:
        ResourceError: The cluster cannot run this; one sentence says why.
    """
    wanted, least = config.scaling.train_workers, config.scaling.min_train_workers
    if least is None:
        return _plan(nodes, config)
    most = wanted or _plan(nodes, config).train_workers
    for workers in range(most, least, -1):
        try:
            return _plan(nodes, _with_workers(config, workers))
        except ResourceError:
            continue
    return _plan(nodes, _with_workers(config, least))


def _with_workers(config: TrainConfig, workers: int) -> TrainConfig:
    return replace(config, scaling=replace(config.scaling, train_workers=workers))


def _plan(nodes: Sequence[NodeResources], config: TrainConfig) -> ResourcePlan:
    """Divide a cluster between exactly the ranks that are asked for and read tasks."""
    cpus, gpus = sum(node.cpus for node in nodes), int(sum(node.gpus for node in nodes))
    device = config.run.device
    if device == "cuda" and gpus < 1:
        raise ResourceError(
            "run.device is cuda, but the cluster has no GPU; attach to one that has (RAY_ADDRESS) "
            "or use --run.device cpu"
        )
    use_gpu = gpus >= 1 and device != "cpu"
    workers = config.scaling.train_workers or (gpus if use_gpu else 1)
    if use_gpu and workers > gpus:
        raise ResourceError(
            f"scaling.train_workers asks for {workers} ranks with a GPU each, but the cluster has "
            f"{gpus}; lower it, add GPUs, or use --run.device cpu"
        )
    if not use_gpu and workers > cpus:
        raise ResourceError(
            f"scaling.train_workers asks for {workers} ranks, but the cluster has {cpus:g} CPUs; "
            "lower it or add machines"
        )
    per_worker = _cpus_per_worker(nodes, config, workers, use_gpu, cpus)
    left = cpus - workers * per_worker
    if left < _MIN_DATA_CPUS:
        raise ResourceError(
            f"{workers} rank(s) with {per_worker:g} CPUs each leave none of the cluster's {cpus:g} "
            "CPUs to the tasks that read data; lower scaling.cpus_per_worker or "
            "scaling.train_workers"
        )
    tasks = max(1, min(config.data.loader_workers, int(left / workers)))
    # Whatever the ranks' placement, some node has at least the average of what is left.
    average = left / sum(node.cpus > 0 for node in nodes)
    return ResourcePlan(
        train_workers=workers,
        cpus_per_worker=per_worker,
        gpus_per_worker=int(use_gpu),
        data_task_cpus=max(0.01, _round_down(min(1.0, left / (workers * tasks), average))),
        concurrent_read_tasks=tasks,
    )


def local_node(config: TrainConfig, usable_cpus: int, gpus: int) -> NodeResources:
    """Resources to declare for a cluster that is started on this machine alone.

    The logical CPUs may be more than the machine has: a rank on a small machine shares its cores
    with the tasks that feed it. So there are at least four for each rank: two for itself, one for a
    task that reads for it now, and one for a task that reads ahead.

    Args:
        config: Of the run.
        usable_cpus: CPUs that this process may use.
        gpus: GPUs of the machine.

    Raises:
        ResourceError: More ranks than CPUs, on a machine without GPUs.
    """
    gpus = 0 if config.run.device == "cpu" else gpus
    workers = config.scaling.train_workers or max(1, gpus)
    if config.scaling.min_train_workers is not None and gpus == 0:
        workers = max(config.scaling.min_train_workers, min(workers, usable_cpus))
    if gpus == 0 and workers > usable_cpus:
        raise ResourceError(
            f"scaling.train_workers asks for {workers} ranks, but this machine has {usable_cpus} "
            "CPU(s) and no GPU for them; lower it, or attach to a cluster with RAY_ADDRESS"
        )
    return NodeResources(max(usable_cpus, 4 * workers), gpus)


def _cpus_per_worker(
    nodes: Sequence[NodeResources], config: TrainConfig, workers: int, use_gpu: bool, cpus: float
) -> float:
    given = config.scaling.cpus_per_worker
    if given is not None:
        if _num_slots(nodes, given, use_gpu) < workers:
            raise ResourceError(
                f"no place for {workers} rank(s) with {given:g} CPUs"
                f"{' and a GPU' if use_gpu else ''} each on {len(nodes)} node(s) with {cpus:g} "
                "CPUs together; lower scaling.cpus_per_worker or scaling.train_workers"
            )
        return given
    share = cpus / (2 * workers)
    if use_gpu:
        share = min(1.0, share)
    share = float(math.floor(share)) if share >= 1 else _round_down(share)
    while share >= _MIN_DATA_CPUS and _num_slots(nodes, share, use_gpu) < workers:
        share = _round_down(share / 2)
    if share < _MIN_DATA_CPUS:
        raise ResourceError(
            f"the cluster's {cpus:g} CPUs are too few for {workers} rank(s)"
            f"{', or are not on the nodes with GPUs' if use_gpu else ''}; add CPUs or lower "
            "scaling.train_workers"
        )
    return share


def _num_slots(nodes: Sequence[NodeResources], cpus: float, use_gpu: bool) -> int:
    """Ranks that fit on the nodes, each on a single one."""
    tolerance = 1e-9
    slots = (int(node.cpus / cpus + tolerance) for node in nodes)
    if not use_gpu:
        return sum(slots)
    return sum(min(by_cpu, int(node.gpus)) for by_cpu, node in zip(slots, nodes, strict=True))


def _round_down(value: float) -> float:
    return math.floor(value * 100 + 1e-9) / 100
