"""A validation as one rank of a run: measure, log with the protocol, and leave the rows behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metro_ray.errors import RunStopped
from metro_ray.evaluation import evaluate, metro_line
from metro_ray.evaluation.figures import TITLES, shown
from metro_ray.evaluation.per_sample import (
    averages_line,
    describe_result,
    epoch_file,
    keep_best_and_last,
    write_per_sample,
)
from metro_ray.evaluation.protocols import protocol_of
from metro_ray.training.logs import METRO, log_validation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from metro_ray.bodies import BodyModel
    from metro_ray.config.schema import TrainConfig
    from metro_ray.data.sample import Batch
    from metro_ray.evaluation import EvaluationResult
    from metro_ray.training.context import WorkerContext


def validate(
    config: TrainConfig,
    worker: WorkerContext,
    model: nn.Module,
    body: BodyModel,
    batches: Iterable[Batch],
    epoch: int,
) -> dict[str, float]:
    """Evaluate on all ranks; rank 0 logs and writes `per_sample/epoch-NNN.parquet`. Collective.

    Args:
        config: Of the run.
        worker: Rank and device.
        model: To measure, on the device.
        body: On the device.
        batches: This rank's share.
        epoch: Complete epochs.

    Returns:
        Metrics, the same on every rank; empty where there are no rows.

    Raises:
        TrainingError: The model predicts numbers that are not finite, or a row came twice.
        RunStopped: The run was asked to end.
    """
    result = evaluate(
        model,
        body,
        _until_stopped(batches, worker),
        worker.device,
        gather=worker.gather,
        precision=config.optim.precision,
        channels_last=config.optim.channels_last,
    )
    if not len(result.table.row_id):
        METRO.info("No validation: data.val_yaml is not given, or has no readable row")
        return {}
    log_validation(metro_line(epoch, result.metrics))
    if worker.rank == 0:
        _tell(config, worker, body, result, epoch)
    return result.metrics


def _until_stopped(batches: Iterable[Batch], worker: WorkerContext) -> Iterator[Batch]:
    """The batches, of which every rank has equally many, until the run is asked to end."""
    for number, batch in enumerate(batches):
        if worker.stop_requested(number):
            raise RunStopped(
                "the evaluation was stopped as asked and has written nothing; the same command "
                "measures from the beginning"
            )
        yield batch


def _tell(
    config: TrainConfig,
    worker: WorkerContext,
    body: BodyModel,
    result: EvaluationResult,
    epoch: int,
) -> None:
    """Log all figures with their protocol, METRO's own averages too, and write the rows."""
    meta = describe_result(
        config,
        body.spec,
        result,
        epoch=epoch,
        world_size=worker.world_size,
        device=worker.device,
    )
    METRO.info("%s", protocol_of(config, body.spec).line)
    means, counts = result.figures.means, result.figures.counts
    parts = [f"{TITLES[name][0]} {shown(name, value)}" for name, value in means.items()]
    rows = f"{counts['rows']} rows ({counts['joint_rows']} with joints, {counts['mesh_rows']} with "
    METRO.info("%s; %smeshes)", ", ".join(parts), rows)
    METRO.info("%s", result.figures.rule.text)
    if counts["accel_frames"]:
        METRO.info("Acceleration: %d frames with both neighbours", counts["accel_frames"])
    METRO.info("%s", averages_line(meta["metro_averages"]))
    folder = Path(config.run.output_dir)
    write_per_sample(epoch_file(folder, epoch), result.table, meta)
    if not config.eval.only:
        keep_best_and_last(folder)
