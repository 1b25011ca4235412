"""Interval: what some steps of one rank added up to, and what the ranks' sums say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from metro_ray.training.sources import SourceSums, add_sources

if TYPE_CHECKING:
    from metro_ray.training.step import StepLosses


class StepTiming(NamedTuple):
    """How long one step of one rank took."""

    seconds: float
    """All of it, the wait for its batch included."""
    wait_seconds: float
    """Until the batch was there."""
    num_images: int
    """Valid rows of this rank's batch."""


@dataclass(kw_only=True)
class Interval:
    """Sums over some steps of one rank; losses are weighed by rows, as in METRO's meters."""

    num_steps: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    num_images: int = 0
    num_skipped: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    """Sums of loss x weight."""
    weight: int = 0
    sources: list[SourceSums] = field(default_factory=list)
    """Of each source; empty where there is only one."""
    memory_mib: float = 0.0
    """Most memory in use up to the end of these steps."""

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

    def plus(self, other: Interval) -> Interval:
        """The sums of both."""
        names = dict.fromkeys((*self.losses, *other.losses))
        return Interval(
            num_steps=self.num_steps + other.num_steps,
            seconds=self.seconds + other.seconds,
            wait_seconds=self.wait_seconds + other.wait_seconds,
            num_images=self.num_images + other.num_images,
            num_skipped=self.num_skipped + other.num_skipped,
            losses={n: self.losses.get(n, 0.0) + other.losses.get(n, 0.0) for n in names},
            weight=self.weight + other.weight,
            sources=add_sources(self.sources, other.sources),
            memory_mib=max(self.memory_mib, other.memory_mib),
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return {**asdict(self), "sources": [list(source) for source in self.sources]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Interval:
        """Of `to_dict`."""
        return cls(**{**values, "sources": [SourceSums(*source) for source in values["sources"]]})

    @property
    def wait_share(self) -> float:
        """Part of the time that went into waiting for data."""
        return self.wait_seconds / max(self.seconds, 1e-9)


def add_ranks(before: Sequence[Interval], now: Sequence[Interval]) -> list[Interval]:
    """Two parts of a run rank by rank; there may have been more or fewer ranks before."""
    pairs = zip_longest(before, now, fillvalue=Interval())
    return [earlier.plus(later) for earlier, later in pairs]


def merged_values(ranks: Sequence[Interval]) -> dict[str, float]:
    """The same steps of all ranks: means of losses over rows, of times over ranks.

    `*_max` is the rank that waits most for data, `data_wait_max_rank` its number. Ranks that were
    there for a part of the steps only count for that part.
    """
    weight = sum(rank.weight for rank in ranks)
    steps = max(sum(rank.num_steps for rank in ranks), 1)
    seconds = max(sum(rank.seconds for rank in ranks), 1e-9)
    waited = sum(rank.wait_seconds for rank in ranks)
    images = sum(rank.num_images for rank in ranks)
    clock = max(max(rank.seconds for rank in ranks), 1e-9)  # ranks make their steps together
    slowest = max(range(len(ranks)), key=lambda rank: ranks[rank].wait_share)
    names = list(dict.fromkeys(name for rank in ranks for name in rank.losses))
    losses = {name: sum(rank.losses.get(name, 0.0) for rank in ranks) / weight for name in names}
    return {
        **losses,
        "skipped_steps": float(ranks[0].num_skipped),
        "rows": float(images),
        "step_seconds": seconds / steps,
        "data_seconds": waited / steps,
        "images_per_second": images / clock,
        "data_wait_seconds": clock * waited / seconds,
        "data_wait_seconds_max": ranks[slowest].wait_seconds,
        "data_wait_share": waited / seconds,
        "data_wait_share_max": ranks[slowest].wait_share,
        "data_wait_max_rank": float(slowest),
        "max_memory_mib": max(rank.memory_mib for rank in ranks),
    }
