"""RunState: what a run is at a moment, and a checkpoint brings back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_ray.config.load import to_dict
from metro_ray.training.checkpoint import load_checkpoint
from metro_ray.training.checkpoint_meta import (
    CheckpointMeta,
    RunStart,
    read_meta,
    require_same_architecture,
    require_same_course,
    require_same_rows,
)
from metro_ray.training.logs import METRO

if TYPE_CHECKING:
    import torch
    from torch.amp.grad_scaler import GradScaler

    from metro_ray.config.schema import TrainConfig
    from metro_ray.models import Metro
    from metro_ray.training.average import WeightAverage
    from metro_ray.training.guard import NonFiniteGuard
    from metro_ray.training.meter import RunMeter
    from metro_ray.training.position import Position


@dataclass(kw_only=True)
class RunState:
    """Of one rank; the same on every rank."""

    config: TrainConfig
    mesh: str
    """Name of the mesh spec."""
    model: Metro
    optimizer: torch.optim.Optimizer
    scaler: GradScaler
    average: WeightAverage | None
    guard: NonFiniteGuard
    meter: RunMeter
    position: Position
    train_rows: str
    """`EpochPlan.rows_text` of the training set."""
    starts: tuple[RunStart, ...]
    """How the run began, and each time that it went on."""
    bad_rows_before: tuple[dict[str, Any], ...] = ()
    """Rows that earlier parts of the run could not read, as `list_bad_rows` has them."""

    @property
    def measured_model(self) -> Metro:
        """What is validated and predicted with: the moving average where one is kept."""
        return self.model if self.average is None else self.average.model

    def restore(self, folder: Path) -> CheckpointMeta:
        """Take everything from a checkpoint.

        Raises:
            CheckpointError: Broken, of another architecture, or of a run with other settings.
        """
        meta, settings = read_meta(folder), asdict(self.config)
        require_same_architecture(meta, settings["model"], self.mesh, folder)
        require_same_course(meta, settings, folder)
        require_same_rows(meta, self.train_rows, folder)
        average = None if self.average is None else self.average.model
        load_checkpoint(folder, self.model, self.optimizer, average)
        if self.average is not None:
            self.average.updates = meta.averaged
        if self.scaler.is_enabled() and meta.loss_scale:
            self.scaler.load_state_dict(meta.loss_scale)
        self.guard.skipped, self.guard.in_a_row = meta.skipped_steps
        at = self.position
        at.epoch, at.step, at.row_in_epoch = meta.epoch, meta.step, meta.row_in_epoch
        self.meter.restore(meta.totals)
        self.bad_rows_before = meta.bad_rows
        [start] = self.starts
        self.starts = (*meta.starts, replace(start, epoch=meta.epoch, step=meta.step))
        where = (folder, meta.epoch, meta.row_in_epoch, meta.step)
        METRO.info("Continuing from %s: epoch %d, row %d, step %d", *where)
        return meta

    def to_meta(
        self,
        *,
        world_size: int,
        totals: dict[str, Any],
        bad_rows: Sequence[dict[str, Any]],
        metrics: Mapping[str, float],
        validation_left: bool,
    ) -> CheckpointMeta:
        """All but the tensors.

        Args:
            world_size: Ranks.
            totals: Of `RunMeter.state`, which all ranks have to ask for.
            bad_rows: Of all ranks and of earlier parts of the run.
            metrics: Of the validation at this step, if there was one.
            validation_left: Whether that validation was interrupted.
        """
        return CheckpointMeta(
            config=to_dict(self.config),
            mesh=self.mesh,
            epoch=self.position.epoch,
            step=self.position.step,
            row_in_epoch=self.position.row_in_epoch,
            train_rows=self.train_rows,
            world_size=world_size,
            averaged=0 if self.average is None else self.average.updates,
            loss_scale=self.scaler.state_dict(),
            skipped_steps=(self.guard.skipped, self.guard.in_a_row),
            totals=totals,
            starts=self.starts,
            bad_rows=tuple(bad_rows),
            metrics=dict(metrics),
            validation_left=validation_left,
        )
