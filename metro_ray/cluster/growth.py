"""Machines that join, or come back, while an elastic run trains on fewer ranks than it may.

Ray Train's own elastic mode ends the ranks wherever they are, so the steps since the last
checkpoint are made twice, and it keeps settings that depend on the number of ranks. Here the ranks
are asked to stop as SIGTERM asks them, after a checkpoint; then all start again, planned anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from metro_ray.cluster.connect import replan
from metro_ray.cluster.shared_storage import require_shared_storage
from metro_ray.errors import ResourceError

if TYPE_CHECKING:
    from metro_ray.cluster.resources import ResourcePlan
    from metro_ray.cluster.stop import StopFile
    from metro_ray.config.schema import TrainConfig

_LOG = logging.getLogger(__name__)
_LOOK_EVERY_S = 10.0


class Growth:
    """Whether there is place for more ranks than a run has.

    Args:
        config: Of the run.
        plan: What it runs with.
    """

    def __init__(self, config: TrainConfig, plan: ResourcePlan) -> None:
        self._config, self._plan = config, plan
        self._seen, self._told = plan.train_workers, ""
        self.found: int | None = None
        """Ranks that there is place for, once the run has been asked to stop for them."""

    @property
    def reason(self) -> str:
        """Why the run starts again, for its report."""
        return f"machines joined: {self._plan.train_workers} -> {self.found} ranks"

    def look(self) -> bool:
        """Look at the cluster; true where the place is there the second time in a row.

        A machine that does not see the run's folder or data is told of once and left alone.
        """
        before, self._seen = self._seen, self._plan.train_workers
        try:
            plan = replan(self._config)
            self._seen = plan.train_workers
            if min(before, self._seen) <= self._plan.train_workers:
                return False
            require_shared_storage(self._config, plan)
        except ResourceError as error:
            self.tell(str(error))
            return False
        self.found = self._seen
        return True

    def tell(self, why: str) -> None:
        """Say once why the run stays as it is."""
        if why != self._told:
            _LOG.warning("the run stays at %d rank(s): %s", self._plan.train_workers, why)
        self._told = why


@contextmanager
def growth_watched(config: TrainConfig, plan: ResourcePlan, stop: StopFile) -> Iterator[Growth]:
    """While the context lasts, ask the run to stop once there is place for more ranks.

    Does nothing without `scaling.min_train_workers`, when only evaluating, and with all ranks
    there.

    Args:
        config: Of the run.
        plan: What it runs with.
        stop: What its ranks look for.
    """
    growth, over = Growth(config, plan), threading.Event()
    scaling = config.scaling
    if (
        scaling.min_train_workers is None
        or config.eval.only
        or plan.train_workers == scaling.train_workers
    ):
        yield growth
        return

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_S):
            try:
                there = growth.look()
            except Exception as error:  # noqa: BLE001 - a look that fails must not be the last
                growth.tell(f"could not look for machines: {type(error).__name__}: {error}")
                continue
            if there:
                _LOG.info("%s; going on with them after a checkpoint", growth.reason)
                stop.path.touch()
                return

    thread = threading.Thread(target=watch, name="growth", daemon=True)
    thread.start()
    try:
        yield growth
    finally:
        over.set()
        thread.join()
