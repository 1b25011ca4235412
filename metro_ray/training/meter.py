"""RunMeter: sums of the last interval, the epoch and the run, merged over the ranks when reported.

Each rank sees its own wait for data only, and a rank that waits makes the others wait for its
gradients. So what is reported is the mean over the ranks and the rank that waits most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metro_ray.training.interval import Interval, StepTiming, add_ranks, merged_values
from metro_ray.training.logs import METRO
from metro_ray.training.progress import max_memory_mib
from metro_ray.training.sources import MOST_SOURCES, add_sources, source_values

if TYPE_CHECKING:
    from metro_ray.losses import LossWeights
    from metro_ray.training.context import WorkerContext
    from metro_ray.training.step import StepLosses

_TOO_LONG = 0.2
_PATIENCE = 3


class RunMeter:
    """Counts the steps of this rank.

    Args:
        worker: Of this rank; every rank makes the same calls.
        source_names: What `Batch.source` counts.
        weights: How losses of a source add up.
    """

    def __init__(
        self, worker: WorkerContext, source_names: Sequence[str], weights: LossWeights
    ) -> None:
        self._worker, self._weights = worker, weights
        self.source_names = tuple(source_names) if 1 < len(source_names) <= MOST_SOURCES else ()
        """Sources that are told apart; none where there is one, or very many."""
        self.total = Interval()
        """All steps made here; those of an interrupted earlier part are not in it."""
        self._interval, self._epoch = Interval(), Interval()
        self._run_before: list[Interval] = []
        self._epoch_before: list[Interval] = []
        self._hint = WaitHint()

    def state(self) -> dict[str, Any]:
        """What a run that goes on from here counts on with. Collective."""
        ranks = self._worker.gather((self.total, self._epoch))
        run = add_ranks(self._run_before, [total for total, _ in ranks])
        epoch = add_ranks(self._epoch_before, [part for _, part in ranks])
        return {
            "source_names": list(self.source_names),
            "run": [rank.to_dict() for rank in run],
            "epoch": [rank.to_dict() for rank in epoch if rank.num_steps],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Count on from `state`; the sums of other sources than those of now are dropped."""
        same = list(self.source_names) == state.get("source_names")
        for name, before in (("run", self._run_before), ("epoch", self._epoch_before)):
            for values in state.get(name, ()):
                before.append(Interval.from_dict(values if same else {**values, "sources": []}))

    def add(self, losses: StepLosses, timing: StepTiming) -> None:
        """Count a step."""
        for sums in (self._interval, self._epoch, self.total):
            sums.add(losses, timing)

    def end_interval(self) -> dict[str, float]:
        """`train/*` of the steps since the last call. Collective."""
        values = self._values(self._interval, "train")
        self._interval = Interval()
        hint = self._hint.check(values)
        if hint and self._worker.rank == 0:
            METRO.warning("%s", hint)
        return values

    def end_epoch(self) -> dict[str, float]:
        """`epoch/*` of all of the epoch's steps, those before an interruption too. Collective."""
        values = self._values(self._epoch, "epoch", self._epoch_before)
        self._epoch, self._epoch_before = Interval(), []
        return values

    def of_run(self) -> dict[str, float]:
        """`train/*` of the whole run's steps; empty where there were none. Collective."""
        return self._values(self.total, "train", self._run_before)

    def _values(
        self, sums: Interval, prefix: str, before: Sequence[Interval] = ()
    ) -> dict[str, float]:
        sums.memory_mib = max_memory_mib(self._worker.device)
        ranks = add_ranks(before, self._worker.gather(sums))
        if not sum(rank.num_steps for rank in ranks):
            return {}
        sources = []
        for rank in ranks:
            sources = add_sources(sources, rank.sources)
        by_source = source_values(sources, self.source_names, self._weights)
        values = merged_values(ranks) | {f"source/{name}": v for name, v in by_source.items()}
        return {f"{prefix}/{name}": value for name, value in values.items()}


class WaitHint:
    """Says once what to change where the ranks wait for data in several reports in a row."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._said = False

    def check(self, values: dict[str, float]) -> str | None:
        """What to do, at the third report in a row with too long a wait.

        Args:
            values: `train/data_wait_share` and what is beside it.
        """
        mean = values.get("train/data_wait_share", 0.0)
        most = values.get("train/data_wait_share_max", 0.0)
        self._in_a_row = self._in_a_row + 1 if most > _TOO_LONG else 0
        if self._said or self._in_a_row < _PATIENCE:
            return None
        self._said = True
        rank = int(values["train/data_wait_max_rank"])
        if most > 2 * mean:
            return (
                f"rank {rank} waits for data {most:.0%} of its time, the ranks {mean:.0%} on "
                "average, and all go at its pace: look at its machine (busy cores, slow storage)"
            )
        return (
            f"{mean:.0%} of the time goes into waiting for data. Decode more at once: a higher "
            "data.loader_workers (--num_workers), a lower scaling.cpus_per_worker, or CPU machines "
            "in the cluster; or decode less: data.crop fast, or crops baked by `metro-ray data "
            "convert --crop 512`. A higher data.prefetch_batches helps where only some batches "
            "are late"
        )
