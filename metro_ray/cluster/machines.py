"""Wait for machines that an autoscaler has yet to start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from metro_ray.cluster.resources import NodeResources, ResourcePlan, plan_resources
from metro_ray.errors import ResourceError

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig

_LOG = logging.getLogger(__name__)
_LOOK_EVERY_S = 1.0


@contextmanager
def plan_with_machines(
    config: TrainConfig, nodes: Callable[[], list[NodeResources]]
) -> Iterator[ResourcePlan]:
    """Divide an attached cluster, waiting `scaling.wait_for_machines_s` for machines to join.

    The autoscaler is asked for them, and for new ones in their place while the context lasts; a
    cluster without one gets machines by other means. GPUs are waited for unless `run.device` is
    cpu. When the time is over, what is there has to do.

    Args:
        config: Of the run.
        nodes: Tells what is there.

    Raises:
        ResourceError: It does not do.
    """
    wait_s = config.scaling.wait_for_machines_s
    if wait_s == 0:
        yield plan_resources(nodes(), config)
        return
    try:
        yield _wait(config, nodes, time.monotonic() + wait_s)
    finally:
        _ask([])


def _wait(
    config: TrainConfig, nodes: Callable[[], list[NodeResources]], deadline: float
) -> ResourcePlan:
    wanted = _all_wanted(config)
    bundles = _bundles(wanted)
    _ask(bundles)
    told = False
    while True:
        try:
            return plan_resources(nodes(), wanted)
        except ResourceError as error:
            if time.monotonic() >= deadline:
                break
            if not told:
                _LOG.info("waiting for machines: %s", error)
                told = True
        time.sleep(_LOOK_EVERY_S)
    return plan_resources(nodes(), config)


def _all_wanted(config: TrainConfig) -> TrainConfig:
    """The run with every rank it asks for, on GPUs unless it wants none."""
    device = "cpu" if config.run.device == "cpu" else "cuda"
    return replace(
        config,
        run=replace(config.run, device=device),
        scaling=replace(config.scaling, min_train_workers=None),
    )


def _bundles(config: TrainConfig) -> list[dict[str, float]]:
    """What each rank needs, for the autoscaler; it knows whole CPUs only."""
    cpus = max(1, round(config.scaling.cpus_per_worker or 1))
    one: dict[str, float] = {"CPU": cpus}
    if config.run.device != "cpu":
        one["GPU"] = 1
    return [one] * (config.scaling.train_workers or 1)


def _ask(bundles: list[dict[str, float]]) -> None:
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)
