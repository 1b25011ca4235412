"""Position: where a run is in its epochs, and what follows from that for the learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from metro_ray.training.schedule import learning_rate, metro_epoch

if TYPE_CHECKING:
    from metro_ray.config.schema import OptimConfig


class Position:
    """Epoch, step and row; the same on every rank.

    Args:
        optim: Batch size, epochs and schedule.
        num_batches: Of an epoch on each rank.
        world_size: Ranks.

    Attributes:
        epoch: Epoch being trained, from 0; equals the number of complete epochs.
        step: Optimizer steps so far.
        row_in_epoch: Rows of this epoch's order that all ranks together have trained on.
        steps_per_epoch: The last step of an epoch takes the batches that are left.
    """

    def __init__(self, optim: OptimConfig, *, num_batches: int, world_size: int) -> None:
        self._optim = optim
        self._rows_per_batch = optim.per_gpu_batch_size * world_size
        self.steps_per_epoch = math.ceil(num_batches / optim.accumulate_steps)
        self.epoch, self.step, self.row_in_epoch = 0, 0, 0

    def next_step(self, num_batches: int) -> None:
        """Begin a step that takes this many batches of each rank."""
        self.step += 1
        self.row_in_epoch += num_batches * self._rows_per_batch

    def next_epoch(self) -> None:
        """The epoch is complete."""
        self.epoch, self.row_in_epoch = self.epoch + 1, 0

    @property
    def on_schedule(self) -> int:
        """`step`, or what it would be had there always been as many ranks as now."""
        in_epoch = math.ceil(
            self.row_in_epoch / (self._rows_per_batch * self._optim.accumulate_steps)
        )
        return self.epoch * self.steps_per_epoch + min(in_epoch, self.steps_per_epoch)

    @property
    def all_steps(self) -> int:
        """Steps of the whole run by its schedule."""
        return self._optim.epochs * self.steps_per_epoch

    @property
    def metro_epoch(self) -> int:
        """The number that METRO's log lines carry."""
        return metro_epoch(self.on_schedule, self.steps_per_epoch)

    @property
    def lr(self) -> float:
        """Learning rate of the step that was begun last."""
        return learning_rate(
            self.on_schedule,
            base_lr=self._optim.lr,
            epochs=self._optim.epochs,
            steps_per_epoch=self.steps_per_epoch,
            schedule=self._optim.schedule,
            warmup_steps=self._optim.warmup_steps,
        )
