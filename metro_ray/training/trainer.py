"""One rank's training: its state, an epoch, a validation, a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_ray.errors import MetroRayError, RunStopped, TrainingError
from metro_ray.training.average import WeightAverage
from metro_ray.training.builders import loss_weights, prepare_model
from metro_ray.training.checkpoint_meta import RunStart
from metro_ray.training.checkpoint_writer import CheckpointWriter
from metro_ray.training.context import broadcast_buffers
from metro_ray.training.data_source import merge_bad_rows
from metro_ray.training.guard import NonFiniteGuard
from metro_ray.training.interval import StepTiming
from metro_ray.training.live import LiveProgress
from metro_ray.training.logs import METRO
from metro_ray.training.meter import RunMeter
from metro_ray.training.pictures import EpochPictures
from metro_ray.training.position import Position
from metro_ray.training.progress import progress_line
from metro_ray.training.state import RunState
from metro_ray.training.step import (
    TrainStep,
    freeze_parts,
    make_optimizer,
    make_scaler,
    seed_step,
)
from metro_ray.training.upload import RunUpload
from metro_ray.training.validation import validate

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.config.schema import TrainConfig
    from metro_ray.data.sample import Batch
    from metro_ray.models import Metro
    from metro_ray.training.context import WorkerContext
    from metro_ray.training.data_source import DataSource
    from metro_ray.training.recorder import Recorder

_RANKED_BY = ("val/pa_mpjpe_mm", "val/mpjpe_mm", "val/mpve_mm")
"""Checkpoints are ranked by the first of these that exists; METRO: by PA-MPJPE."""


class Trainer:
    """Model, optimizer and position of one rank; every rank goes through the same calls.

    Args:
        config: Of the run.
        worker: Of this rank.
        data: Batches of this rank.
        body: Of the predicted mesh; moved to the worker's device.
        model: With the weights to start from.
        reason: Why the run was started, for its report.

    Attributes:
        state: What checkpoints hold: weights, position, sums of losses and times.
        body: On the worker's device.
    """

    def __init__(
        self,
        config: TrainConfig,
        worker: WorkerContext,
        data: DataSource,
        body: BodyModel,
        model: Metro,
        reason: str,
    ) -> None:
        self._config, self._worker, self._data = config, worker, data
        self.body = body.to(worker.device)
        optim, run = config.optim, config.run
        factors = {
            "backbone": optim.backbone_lr_factor,
            "upsampler": optim.upsampler_lr_factor,
        }
        freeze_parts(model, factors)
        wrapped = prepare_model(model, config, worker)
        weights = loss_weights(config, body.spec)
        has_average = optim.ema_decay is not None and not config.eval.only
        self.state = RunState(
            config=config,
            mesh=body.spec.name,
            model=model,
            optimizer=make_optimizer(model, optim.lr, lr_factors=factors),
            scaler=make_scaler(worker.device, optim.precision),
            average=WeightAverage(model, optim.ema_decay or 0.0) if has_average else None,
            guard=NonFiniteGuard(worker, optim.max_nonfinite_steps),
            meter=RunMeter(worker, data.source_names, weights),
            position=Position(
                optim, num_batches=data.num_train_batches(), world_size=worker.world_size
            ),
            train_rows=data.train_rows,
            starts=(RunStart.now(reason, worker.world_size, worker.device.type),),
        )
        self._train_step = TrainStep(
            model=wrapped,
            body=self.body,
            optimizer=self.state.optimizer,
            device=worker.device,
            weights=weights,
            precision=optim.precision,
            channels_last=optim.channels_last,
            clip_grad_norm=optim.clip_grad_norm,
            num_sources=len(self.state.meter.source_names),
            scaler=self.state.scaler,
        )
        self._live = LiveProgress(Path(run.output_dir), worker, epochs=optim.epochs)
        self._writer = CheckpointWriter(
            Path(run.output_dir) / "checkpoints",
            keep=run.keep_checkpoints,
            in_background=run.background_checkpoints,
            upload=None if run.upload_to is None else RunUpload(run.upload_to),
        )
        self._reported: dict[str, float] = {}
        self._validation_left = False
        """Whether the run goes on from a validation that was interrupted."""
        self._pictures = EpochPictures(config, self.body)

    def restore(self, folder: Path) -> None:
        """Take weights, optimizer and position from a checkpoint.

        Raises:
            CheckpointError: Broken, of another architecture, or of a run with other settings.
        """
        meta = self.state.restore(folder)
        self._writer.best = meta.best
        self._validation_left = meta.validation_left

    def train(
        self, recorder: Recorder, on_epoch: Callable[[dict[str, float]], None]
    ) -> dict[str, float]:
        """Train the epochs that are left, with a validation and a checkpoint after each.

        Args:
            recorder: Takes the numbers.
            on_epoch: Called with its metrics when an epoch is recorded, validated and saved.

        Returns:
            Metrics of the last validation; empty where there was none.

        Raises:
            TrainingError: No batches, or too many steps in a row that are not finite.
            RunStopped: The run was asked to end; its checkpoint is written.
        """
        if self._data.num_train_batches() < 1:
            raise TrainingError(
                "there is nothing to train on: an epoch has no batches. Give data.train_yaml a "
                "data set with rows, and with data.drop_tail at least one whole global batch"
            )
        at, epochs = self.state.position, self._config.optim.epochs
        metrics: dict[str, float] = {}
        if self._validation_left:
            METRO.info("Epoch %d was trained and not validated; doing that first", at.epoch)
            metrics = self._end_epoch(recorder, on_epoch)
        elif at.epoch >= epochs:
            METRO.info("All %d epochs are done; measuring again", at.epoch)
            return self.validate(recorder)
        while at.epoch < epochs:
            self._train_epoch(recorder)
            at.next_epoch()
            metrics = self._end_epoch(recorder, on_epoch)
        self._live.enter("finishing", at)
        return metrics

    def close(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises:
            OSError: It could not be written.
        """
        self._writer.wait()

    def bad_rows(self) -> dict[str, Any]:
        """Rows of the whole run that could not be read, as `list_bad_rows` has them. Collective."""
        ranks = self._worker.gather(self._data.bad_rows()["rows"])
        return merge_bad_rows([self.state.bad_rows_before, *ranks])

    def _end_epoch(
        self, recorder: Recorder, on_epoch: Callable[[dict[str, float]], None]
    ) -> dict[str, float]:
        """Validate, save and tell of the epoch that has been trained."""
        at = self.state.position
        self._live.enter("validating", at)
        try:
            metrics = self.validate(recorder)
        except RunStopped:
            self._save_and_report({}, validation_left=True)
            raise RunStopped(
                f"stopped while validating epoch {at.epoch - 1} as asked; the same command with "
                "--run.resume true validates it and goes on"
            ) from None
        self._draw_pictures()
        self._save_and_report(metrics)
        on_epoch(metrics)
        if at.epoch < self._config.optim.epochs and self._worker.stop_requested(0):
            raise RunStopped(
                f"stopped after epoch {at.epoch - 1} as asked; the same command with "
                "--run.resume true goes on from there"
            )
        return metrics

    def validate(self, recorder: Recorder) -> dict[str, float]:
        """Metrics of the model, or its moving average; empty where there are no validation rows.

        Raises:
            RunStopped: The run was asked to end.
        """
        model = self.state.measured_model
        broadcast_buffers(model)
        batches, at = self._data.eval_batches(), self.state.position
        metrics = validate(self._config, self._worker, model, self.body, batches, at.epoch)
        if metrics:
            recorder.record("val", epoch=at.epoch, step=at.step, values=metrics)
        return metrics

    def _draw_pictures(self) -> None:
        """Draw predictions of this epoch on rank 0; what cannot be drawn does not cost the run."""
        every, epoch = self._config.eval.pictures_every, self.state.position.epoch
        if self._worker.rank > 0 or not every or epoch % every:
            return
        try:
            self._pictures.draw(self.state.measured_model, epoch)
        except MetroRayError as error:
            METRO.warning("no picture of epoch %d: %s", epoch, error)

    def _train_epoch(self, recorder: Recorder) -> None:
        every, at = self._config.run.checkpoint_every, self.state.position
        num_batches, done = self._data.num_train_batches(at.row_in_epoch), 0
        batches = iter(self._data.train_batches(at.epoch, at.row_in_epoch))
        started = time.perf_counter()
        while window := list(islice(batches, self._config.optim.accumulate_steps)):
            self._one_step(window, started)
            done += len(window)
            is_last = done == num_batches
            if is_last or at.step % self._config.run.log_every == 0:
                self._log_progress(recorder)
            if not is_last and self._worker.stop_requested(at.step):
                self._save_and_report({})
                raise RunStopped(
                    f"stopped after step {at.step} (epoch {at.epoch}, row {at.row_in_epoch} of "
                    "it) as asked; the same command with --run.resume true goes on from there"
                )
            if every is not None and at.step % every == 0 and not is_last:
                self._save_and_report({})
            started = time.perf_counter()
        if done != num_batches:
            raise TrainingError(
                f"epoch {at.epoch} ended after {done} of the {num_batches} batches that were "
                f"left of it on rank {self._worker.rank}: the data source lost some"
            )
        recorder.record("epoch", epoch=at.epoch, step=at.step, values=self.state.meter.end_epoch())

    def _one_step(self, window: list[Batch], started: float) -> None:
        arrived, at = time.perf_counter(), self.state.position
        at.next_step(len(window))
        num_images = sum(int(batch.valid.sum()) for batch in window)
        seed_step(self._config.optim.seed, at.step, self._worker.rank)
        lr = at.lr
        losses = self._train_step.run(window, lr=lr)
        self.state.guard.check(losses, window, step=at.step, lr=lr)
        if self.state.average is not None and losses.applied:
            self.state.average.update(self.state.model)
        timing = StepTiming(time.perf_counter() - started, arrived - started, num_images)
        self.state.meter.add(losses, timing)
        self._live.training(at, self.state.meter, losses.total)

    def _log_progress(self, recorder: Recorder) -> None:
        at = self.state.position
        values = {**self.state.meter.end_interval(), "train/lr": at.lr}
        seconds = self.state.meter.total.seconds / self.state.meter.total.num_steps
        line = progress_line(
            values,
            epoch=at.metro_epoch,
            step=at.step,
            seconds_left=(at.all_steps - at.on_schedule) * seconds,
            source_names=self.state.meter.source_names,
        )
        METRO.info(line)
        recorder.record("train", epoch=at.epoch, step=at.step, values=values)
        self._reported = values

    def _save_and_report(
        self, metrics: Mapping[str, float], *, validation_left: bool = False
    ) -> None:
        """Write a checkpoint on rank 0, report on all."""
        state, folder = self.state, None
        exist = {name: value for name, value in metrics.items() if math.isfinite(value)}
        totals, bad_rows = state.meter.state(), self.bad_rows()["rows"]
        if self._worker.rank == 0:
            folder = self._writer.save(
                state.model,
                state.optimizer,
                state.to_meta(
                    world_size=self._worker.world_size,
                    totals=totals,
                    bad_rows=bad_rows,
                    metrics=metrics,
                    validation_left=validation_left,
                ),
                average=None if state.average is None else state.average.model,
                metric=next(((name, exist[name]) for name in _RANKED_BY if name in exist), None),
            )
        position = {"epoch": float(state.position.epoch), "step": float(state.position.step)}
        self._worker.report({**self._reported, **exist, **position}, folder)
