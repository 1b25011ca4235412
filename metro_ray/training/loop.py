"""`fit`: one rank of a training or evaluation run, the same with and without Ray."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from metro_ray.config.load import dump_yaml
from metro_ray.training.after import finish_run
from metro_ray.training.arithmetic import arithmetic
from metro_ray.training.builders import build_model, load_start_weights
from metro_ray.training.files import write_bytes
from metro_ray.training.heap import keeping_freed_memory
from metro_ray.training.logs import METRO, log_completed, run_log
from metro_ray.training.recorder import Recorder
from metro_ray.training.report import write_run_report
from metro_ray.training.summary import RunSummary
from metro_ray.training.trackers import Trackers, require_trackers
from metro_ray.training.trainer import Trainer
from metro_ray.training.upload import RunUpload

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.config.schema import TrainConfig
    from metro_ray.training.context import WorkerContext
    from metro_ray.training.data_source import DataSource


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What a run came to."""

    run_dir: Path
    checkpoint: Path | None
    """The best checkpoint where validation ranked them, else the last; None where the run only
    evaluated, and on ranks above 0."""
    metrics: dict[str, float]
    """Of the last validation, the same on every rank; only numbers that exist."""
    result: dict[str, Any] | None
    """What `result.json` holds; None on ranks above 0."""


def fit(
    config: TrainConfig,
    worker: WorkerContext,
    data: DataSource,
    *,
    body: BodyModel,
    mesh_reason: str | None = None,
    start_reason: str | None = None,
) -> TrainResult:
    """Train (or, with `eval.only`, evaluate) as one rank of a run.

    Every rank calls this with the same config. Only rank 0 writes files, all below
    `run.output_dir`; its checkpoints replace those of an earlier run in that folder.

    Args:
        config: Of the run.
        worker: Rank, device, and where to report to.
        data: Batches of this rank.
        body: Body model of the predicted mesh; moved to the worker's device.
        mesh_reason: Why this body model was taken, for the report.
        start_reason: Why the run is started now, for the report; None is no special reason.

    Raises:
        TrainingError: No batches to train on, or too many steps in a row that are not finite.
        CheckpointError: A checkpoint to start from is broken or of another architecture.
        ConfigError: Settings that do not fit the body model, or a tracker that is not installed.
        StorageError: The finished run could not be copied to `run.upload_to`.
    """
    folder = Path(config.run.output_dir)
    evaluating = config.eval.only
    require_trackers(config)
    with (
        run_log(folder, worker.rank),
        arithmetic(config.optim),
        keeping_freed_memory(worker.device),
    ):
        trainer, continued = _begin(config, worker, data, body, start_reason)
        writes = worker.rank == 0 and not evaluating
        if writes:
            write_bytes(folder / "config.yaml", dump_yaml(config).encode())
        with (
            closing(trainer),
            Trackers(config, enabled=writes, continued=continued) as trackers,
            Recorder(
                folder, enabled=writes, from_step=trainer.state.position.step, trackers=trackers
            ) as recorder,
        ):

            def summarise(metrics: dict[str, float]) -> RunSummary:
                return _summarise(config, worker, trainer, recorder, metrics, mesh_reason)

            def write_page(metrics: dict[str, float]) -> None:
                summary = summarise(metrics)
                if writes:
                    write_run_report(summary, body.spec)

            if evaluating:
                metrics = trainer.validate(recorder)
                worker.report(_existing(metrics))
            else:
                metrics = trainer.train(recorder, on_epoch=write_page)
            trainer.close()
            done = _finish(summarise(metrics), worker, trainer)
            trackers.set_result(done.result or {})
        log_completed()
        return done


def _begin(
    config: TrainConfig,
    worker: WorkerContext,
    data: DataSource,
    body: BodyModel,
    start_reason: str | None,
) -> tuple[Trainer, bool]:
    """The network with the weights to start from, ready to run; and whether the run goes on."""
    torch.manual_seed(config.optim.seed)  # the same weights on every rank
    model = build_model(config, body)
    checkpoint = None if config.eval.only else worker.latest_checkpoint()
    if checkpoint is None:
        load_start_weights(model, config, body.spec)
        folder = Path(config.run.output_dir)
        if not config.eval.only and worker.rank == 0 and (folder / "checkpoints").exists():
            METRO.warning("%s holds an earlier run, which this one replaces", folder)
    reason = start_reason or ("new run" if checkpoint is None else "run.resume")
    trainer = Trainer(config, worker, data, body, model, reason)
    for line in data.describe():
        METRO.info("%s", line)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    return trainer, checkpoint is not None


def _summarise(
    config: TrainConfig,
    worker: WorkerContext,
    trainer: Trainer,
    recorder: Recorder,
    metrics: dict[str, float],
    mesh_reason: str | None,
) -> RunSummary:
    """What the run has come to; adds up what the ranks know. Collective."""
    state = trainer.state
    return RunSummary(
        config=config,
        metrics=metrics,
        epochs=state.position.epoch,
        steps=state.position.step,
        starts=state.starts,
        seconds=recorder.seconds,
        trained=state.meter.of_run(),
        source_names=state.meter.source_names,
        world_size=worker.world_size,
        device=worker.device,
        bad_rows=trainer.bad_rows(),
        mesh_reason=mesh_reason,
        rows=recorder.rows,
    )


def _finish(summary: RunSummary, worker: WorkerContext, trainer: Trainer) -> TrainResult:
    """Write, on rank 0, what the run leaves behind."""
    run_dir, metrics = summary.run_dir, _existing(summary.metrics)
    if worker.rank > 0:
        return TrainResult(run_dir=run_dir, checkpoint=None, metrics=metrics, result=None)
    result = finish_run(summary, trainer.state.model, trainer.body)
    run = summary.config.run
    if run.upload_to is not None:
        upload = RunUpload(run.upload_to)
        if not summary.config.eval.only:
            upload.checkpoints(run_dir / "checkpoints")
        upload.run(run_dir)
    checkpoint = None if result["checkpoint"] is None else Path(result["checkpoint"])
    return TrainResult(run_dir=run_dir, checkpoint=checkpoint, metrics=metrics, result=result)


def _existing(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}
