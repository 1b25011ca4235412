"""The moving average of the weights that a run may keep beside those it trains."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from metro_ray.models import Metro

Tensors = tuple[Tensor, ...] | list[Tensor]


class WeightAverage:
    """Exponential moving average of a network's parameters and BatchNorm statistics.

    The decay rises from 0 to its full value over the first updates, as (1 + n) / (10 + n), so that
    the random start is soon forgotten. The first update copies.

    Args:
        model: Not wrapped; not changed.
        decay: Share of the average that an update keeps in the end, within [0, 1).
    """

    def __init__(self, model: Metro, decay: float) -> None:
        self._decay = decay
        self._averaged = AveragedModel(model, multi_avg_fn=self._blend, use_buffers=True)
        self._averaged.requires_grad_(False)
        self._updates = 0

    @property
    def model(self) -> Metro:
        """The network with the averaged weights."""
        return cast("Metro", self._averaged.module)

    @property
    def updates(self) -> int:
        """How many states of the weights went in; assign it when a run continues."""
        return self._updates

    @updates.setter
    def updates(self, count: int) -> None:
        self._updates = count
        self._averaged.n_averaged.fill_(count)

    @property
    def decay(self) -> float:
        """Of the next update."""
        return min(self._decay, (1 + self._updates) / (10 + self._updates))

    def update(self, model: Metro) -> None:
        """Take the weights of after a step."""
        self._averaged.update_parameters(model)
        self._updates += 1

    def _blend(self, averaged: Tensors, current: Tensors, _count: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            get_ema_multi_avg_fn(self.decay)(averaged, current, _count)
        else:  # counters
            with torch.no_grad():
                for mine, theirs in zip(averaged, current, strict=True):
                    mine.copy_(theirs)
