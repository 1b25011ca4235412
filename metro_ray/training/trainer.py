"""One rank's training: its state, an epoch, a validation, a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from metro_ray.config.load import to_dict
from metro_ray.errors import MetroRayError, RunStopped, TrainingError
from metro_ray.training.average import WeightAverage
from metro_ray.training.builders import loss_weights, prepare_model
from metro_ray.training.checkpoint import load_checkpoint
from metro_ray.training.checkpoint_meta import (
    CheckpointMeta,
    read_meta,
    require_same_architecture,
    require_same_course,
)
from metro_ray.training.checkpoint_writer import CheckpointWriter
from metro_ray.training.context import broadcast_buffers
from metro_ray.training.guard import NonFiniteGuard
from metro_ray.training.logs import METRO
from metro_ray.training.meter import RunMeter
from metro_ray.training.pictures import EpochPictures
from metro_ray.training.progress import StepTiming, max_memory_mib, progress_line
from metro_ray.training.schedule import learning_rate, metro_epoch
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

    Attributes:
        epoch: Epoch being trained, from 0; equals the number of complete epochs.
        step: Optimizer steps so far.
        row_in_epoch: Rows of this epoch's order that all ranks together have trained on.
        meter: Losses and times of the steps made here.
    """

    def __init__(
        self,
        config: TrainConfig,
        worker: WorkerContext,
        data: DataSource,
        body: BodyModel,
        model: Metro,
    ) -> None:
        self._config, self._worker, self._data = config, worker, data
        self.model = model
        self.body = body.to(worker.device)
        optim = config.optim
        factors = {
            "backbone": optim.backbone_lr_factor,
            "upsampler": optim.upsampler_lr_factor,
        }
        freeze_parts(model, factors)
        wrapped = prepare_model(model, config, worker)
        self._optimizer = make_optimizer(model, optim.lr, lr_factors=factors)
        self._scaler = make_scaler(worker.device, optim.precision)
        self._average = None
        if optim.ema_decay is not None and not config.eval.only:
            self._average = WeightAverage(model, optim.ema_decay)
        self._guard = NonFiniteGuard(worker, optim.max_nonfinite_steps)
        weights = loss_weights(config, body.spec)
        self.meter = RunMeter(worker, data.source_names, weights)
        self._train_step = TrainStep(
            model=wrapped,
            body=self.body,
            optimizer=self._optimizer,
            device=worker.device,
            weights=weights,
            precision=optim.precision,
            channels_last=optim.channels_last,
            clip_grad_norm=optim.clip_grad_norm,
            num_sources=len(self.meter.source_names),
            scaler=self._scaler,
        )
        self.epoch, self.step, self.row_in_epoch = 0, 0, 0
        self._writer = CheckpointWriter(
            Path(config.run.output_dir) / "checkpoints",
            keep=config.run.keep_checkpoints,
            in_background=config.run.background_checkpoints,
            upload=None if config.run.upload_to is None else RunUpload(config.run.upload_to),
        )
        self._reported: dict[str, float] = {}
        self._pictures = EpochPictures(config, self.body)

    def restore(self, folder: Path) -> None:
        """Take weights, optimizer and position from a checkpoint.

        Raises:
            CheckpointError: Broken, of another architecture, or of a run with other settings.
        """
        meta = read_meta(folder)
        settings = asdict(self._config)
        require_same_architecture(meta, settings["model"], self.body.spec.name, folder)
        require_same_course(meta, settings, folder)
        average = None if self._average is None else self._average.model
        load_checkpoint(folder, self.model, self._optimizer, average)
        if self._average is not None:
            self._average.updates = meta.averaged
        if self._scaler.is_enabled() and meta.loss_scale:
            self._scaler.load_state_dict(meta.loss_scale)
        self._guard.skipped, self._guard.in_a_row = meta.skipped_steps
        self.epoch, self.step, self.row_in_epoch = meta.epoch, meta.step, meta.row_in_epoch
        self._writer.best = meta.best
        where = (folder, meta.epoch, meta.row_in_epoch, meta.step)
        METRO.info("Continuing from %s: epoch %d, row %d, step %d", *where)

    def train(self, recorder: Recorder) -> dict[str, float]:
        """Train the epochs that are left, with a validation and a checkpoint after each.

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
        if self.epoch >= self._config.optim.epochs:
            METRO.info("All %d epochs are done; measuring again", self.epoch)
            return self.validate(recorder)
        metrics: dict[str, float] = {}
        while self.epoch < self._config.optim.epochs:
            self._train_epoch(recorder)
            self.epoch, self.row_in_epoch = self.epoch + 1, 0
            metrics = self.validate(recorder)
            self._draw_pictures()
            self._save_and_report(metrics)
        return metrics

    def close(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises:
            OSError: It could not be written.
        """
        self._writer.wait()

    def validate(self, recorder: Recorder) -> dict[str, float]:
        """Metrics of the model, or its moving average; empty where there are no validation rows."""
        model = self.model if self._average is None else self._average.model
        broadcast_buffers(model)
        batches = self._data.eval_batches()
        metrics = validate(self._config, self._worker, model, self.body, batches, self.epoch)
        if metrics:
            recorder.record("val", epoch=self.epoch, step=self.step, values=metrics)
        return metrics

    def _draw_pictures(self) -> None:
        """Draw predictions of this epoch on rank 0; what cannot be drawn does not cost the run."""
        every = self._config.eval.pictures_every
        if self._worker.rank > 0 or not every or self.epoch % every:
            return
        try:
            self._pictures.draw(
                self.model if self._average is None else self._average.model, self.epoch
            )
        except MetroRayError as error:
            METRO.warning("no picture of epoch %d: %s", self.epoch, error)

    def _train_epoch(self, recorder: Recorder) -> None:
        every = self._config.run.checkpoint_every
        num_batches, done = self._data.num_train_batches(self.row_in_epoch), 0
        batches = iter(self._data.train_batches(self.epoch, self.row_in_epoch))
        started = time.perf_counter()
        while window := list(islice(batches, self._config.optim.accumulate_steps)):
            self._one_step(window, started)
            done += len(window)
            is_last = done == num_batches
            if is_last or self.step % self._config.run.log_every == 0:
                self._log_progress(recorder)
            if not is_last and self._worker.stop_requested(self.step):
                self._save_and_report({})
                raise RunStopped(
                    f"stopped after step {self.step} (epoch {self.epoch}, row "
                    f"{self.row_in_epoch} of it) as asked; the same command with --run.resume true "
                    "goes on from there"
                )
            if every is not None and self.step % every == 0 and not is_last:
                self._save_and_report({})
            started = time.perf_counter()
        if done != num_batches:
            raise TrainingError(
                f"epoch {self.epoch} ended after {done} of the {num_batches} batches that were "
                f"left of it on rank {self._worker.rank}: the data source lost some"
            )
        recorder.record("epoch", epoch=self.epoch, step=self.step, values=self.meter.end_epoch())

    def _one_step(self, window: list[Batch], started: float) -> None:
        arrived = time.perf_counter()
        self.step += 1
        self.row_in_epoch += len(window) * self._global_batch_size
        num_images = sum(int(batch.valid.sum()) for batch in window)
        seed_step(self._config.optim.seed, self.step, self._worker.rank)
        lr = self._lr()
        losses = self._train_step.run(window, lr=lr)
        self._guard.check(losses, window, step=self.step, lr=lr)
        if self._average is not None and losses.applied:
            self._average.update(self.model)
        timing = StepTiming(time.perf_counter() - started, arrived - started, num_images)
        self.meter.add(losses, timing)

    def _lr(self) -> float:
        optim = self._config.optim
        return learning_rate(
            self._steps_on_schedule,
            base_lr=optim.lr,
            epochs=optim.epochs,
            steps_per_epoch=self._steps_per_epoch,
            schedule=optim.schedule,
            warmup_steps=optim.warmup_steps,
        )

    @property
    def _steps_per_epoch(self) -> int:
        """The last step of an epoch takes the batches that are left."""
        return math.ceil(self._data.num_train_batches() / self._config.optim.accumulate_steps)

    @property
    def _steps_on_schedule(self) -> int:
        """`step`, or what it would be had there always been as many ranks as now."""
        rows_per_step = self._global_batch_size * self._config.optim.accumulate_steps
        in_epoch = math.ceil(self.row_in_epoch / rows_per_step)
        return self.epoch * self._steps_per_epoch + min(in_epoch, self._steps_per_epoch)

    @property
    def _global_batch_size(self) -> int:
        return self._config.optim.per_gpu_batch_size * self._worker.world_size

    def _log_progress(self, recorder: Recorder) -> None:
        values = {**self.meter.end_interval(), "train/lr": self._lr()}
        left = self._config.optim.epochs * self._steps_per_epoch - self._steps_on_schedule
        line = progress_line(
            values,
            epoch=metro_epoch(self._steps_on_schedule, self._steps_per_epoch),
            step=self.step,
            seconds_left=left * self.meter.total.seconds / self.meter.total.num_steps,
            memory_mib=max_memory_mib(self._worker.device),
            source_names=self.meter.source_names,
        )
        METRO.info(line)
        recorder.record("train", epoch=self.epoch, step=self.step, values=values)
        self._reported = values

    def _save_and_report(self, metrics: Mapping[str, float]) -> None:
        """Write a checkpoint on rank 0, report on all."""
        exist = {name: value for name, value in metrics.items() if math.isfinite(value)}
        folder = self._save(metrics, exist) if self._worker.rank == 0 else None
        position = {"epoch": float(self.epoch), "step": float(self.step)}
        self._worker.report({**self._reported, **exist, **position}, folder)

    def _save(self, metrics: Mapping[str, float], exist: Mapping[str, float]) -> Path:
        ranked = next(((name, exist[name]) for name in _RANKED_BY if name in exist), None)
        meta = CheckpointMeta(
            config=to_dict(self._config),
            mesh=self.body.spec.name,
            epoch=self.epoch,
            step=self.step,
            row_in_epoch=self.row_in_epoch,
            world_size=self._worker.world_size,
            averaged=0 if self._average is None else self._average.updates,
            loss_scale=self._scaler.state_dict(),
            skipped_steps=(self._guard.skipped, self._guard.in_a_row),
            metrics=dict(metrics),
        )
        return self._writer.save(
            self.model,
            self._optimizer,
            meta,
            average=None if self._average is None else self._average.model,
            metric=ranked,
        )
