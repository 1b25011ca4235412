"""One rank's training: its state, an epoch, a validation, a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from metro_ray.config.load import to_dict
from metro_ray.errors import TrainingError
from metro_ray.evaluation import evaluate, metro_line
from metro_ray.metrics.accumulate import all_reduce_with
from metro_ray.training.builders import loss_weights
from metro_ray.training.checkpoint import load_checkpoint, save_checkpoint
from metro_ray.training.checkpoint_meta import (
    BestEntry,
    CheckpointMeta,
    read_meta,
    require_same_architecture,
)
from metro_ray.training.context import broadcast_buffers
from metro_ray.training.logs import METRO, log_validation
from metro_ray.training.progress import Interval, StepTiming, max_memory_mib, progress_line
from metro_ray.training.schedule import learning_rate, metro_epoch
from metro_ray.training.step import TrainStep, freeze_parts, make_optimizer, seed_step

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
        batch_in_epoch: Batches of this epoch trained on so far.
        total: Timing of all steps made here, those of an interrupted earlier part left out.
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
        self._checkpoints = Path(config.run.output_dir) / "checkpoints"
        self.model = model
        self.body = body.to(worker.device)
        if config.optim.channels_last:
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        factors = {
            "backbone": config.optim.backbone_lr_factor,
            "upsampler": config.optim.upsampler_lr_factor,
        }
        freeze_parts(model, factors)
        wrapped = worker.wrap(model)
        self._optimizer = make_optimizer(model, config.optim.lr, lr_factors=factors)
        self._train_step = TrainStep(
            model=wrapped,
            body=self.body,
            optimizer=self._optimizer,
            device=worker.device,
            weights=loss_weights(config, body.spec),
            precision=config.optim.precision,
            channels_last=config.optim.channels_last,
        )
        self.epoch, self.step, self.batch_in_epoch = 0, 0, 0
        self.total = Interval()
        self._interval = Interval()
        self._best: tuple[BestEntry, ...] = ()
        self._reported: dict[str, float] = {}

    def restore(self, folder: Path) -> None:
        """Take weights, optimizer and position from a checkpoint.

        Raises:
            CheckpointError: Broken, or of another architecture.
        """
        meta = read_meta(folder)
        settings = asdict(self._config.model)
        require_same_architecture(meta, settings, self.body.spec.name, folder)
        load_checkpoint(folder, self.model, self._optimizer)
        self.epoch, self.step, self.batch_in_epoch = meta.epoch, meta.step, meta.batch_in_epoch
        self._best = meta.best
        where = (folder, meta.epoch, meta.batch_in_epoch, meta.step)
        METRO.info("Continuing from %s: epoch %d, batch %d, step %d", *where)

    def train(self, recorder: Recorder) -> dict[str, float]:
        """Train the epochs that are left, with a validation and a checkpoint after each.

        Returns:
            Metrics of the last validation; empty where there was none.

        Raises:
            TrainingError: No batches, or a loss that is not finite.
        """
        if self._data.num_train_batches < 1:
            raise TrainingError(
                "there is nothing to train on: an epoch has no batches. Give data.train_yaml a "
                "data set with rows, and with data.drop_tail at least one whole global batch"
            )
        metrics: dict[str, float] = {}
        while self.epoch < self._config.optim.epochs:
            self._train_epoch(recorder)
            self.epoch, self.batch_in_epoch = self.epoch + 1, 0
            metrics = self.validate(recorder)
            self._save_and_report(metrics)
        return metrics

    def validate(self, recorder: Recorder) -> dict[str, float]:
        """Metrics of the model as it is; empty where there are no validation rows."""
        broadcast_buffers(self.model)
        metrics = evaluate(
            self.model,
            self.body,
            self._data.eval_batches(),
            self._worker.device,
            reduce=all_reduce_with(self._worker.all_reduce_sums),
            precision=self._config.optim.precision,
            channels_last=self._config.optim.channels_last,
        ).metrics
        if not metrics["val/num_rows"]:
            METRO.info("No validation: data.val_yaml is not given, or has no readable row")
            return {}
        log_validation(metro_line(self.epoch, metrics))
        recorder.record("val", epoch=self.epoch, step=self.step, values=metrics)
        return metrics

    def _train_epoch(self, recorder: Recorder) -> None:
        every = self._config.run.checkpoint_every
        num_batches = self._data.num_train_batches
        batches = iter(self._data.train_batches(self.epoch, self.batch_in_epoch))
        started = time.perf_counter()
        while (batch := next(batches, None)) is not None:
            self._one_step(batch, started)
            is_last = self.batch_in_epoch == num_batches
            if is_last or self.step % self._config.run.log_every == 0:
                self._log_progress(recorder)
            if every is not None and self.step % every == 0 and not is_last:
                self._save_and_report({})
            started = time.perf_counter()
        if self.batch_in_epoch != num_batches:
            raise TrainingError(
                f"epoch {self.epoch} ended after {self.batch_in_epoch} of {num_batches} batches "
                f"on rank {self._worker.rank}: the data source lost some"
            )

    def _one_step(self, batch: Batch, started: float) -> None:
        arrived = time.perf_counter()
        self.step += 1
        num_images = int(batch.valid.sum())
        seed_step(self._config.optim.seed, self.step, self._worker.rank)
        losses = self._train_step.run(batch, lr=self._lr(), step=self.step)
        self.batch_in_epoch += 1
        timing = StepTiming(time.perf_counter() - started, arrived - started, num_images)
        self._interval.add(losses, timing)
        self.total.add(losses, timing)

    def _lr(self) -> float:
        optim = self._config.optim
        return learning_rate(
            self.step,
            base_lr=optim.lr,
            epochs=optim.epochs,
            steps_per_epoch=self._data.num_train_batches,
            schedule=optim.schedule,
            warmup_steps=optim.warmup_steps,
        )

    def _log_progress(self, recorder: Recorder) -> None:
        values = {**self._interval.values(self._worker.world_size), "train/lr": self._lr()}
        self._interval = Interval()
        left = self._config.optim.epochs * self._data.num_train_batches - self.step
        line = progress_line(
            values,
            epoch=metro_epoch(self.step, self._data.num_train_batches),
            step=self.step,
            seconds_left=left * self.total.seconds / self.total.num_steps,
            memory_mib=max_memory_mib(self._worker.device),
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
            batch_in_epoch=self.batch_in_epoch,
            world_size=self._worker.world_size,
            best=self._best,
            metrics=dict(metrics),
        )
        folder, meta = save_checkpoint(
            self._checkpoints,
            self.model,
            self._optimizer,
            meta,
            metric=ranked,
            keep=self._config.run.keep_checkpoints,
        )
        self._best = meta.best
        METRO.info("Save checkpoint to %s", folder)
        return folder
