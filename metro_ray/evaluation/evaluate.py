"""The one evaluation loop (METRO's run_validate, with exact averages).

As in METRO, predicted joints are regressed from the predicted full mesh, not taken from the joint
tokens, and mesh and joints are both made relative to the regressed root. Unlike METRO, every row
counts once; see `metro_ray.metrics.metro_compat` for what the original averages would have been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from metro_ray.data.normalize import normalize_images
from metro_ray.errors import TrainingError
from metro_ray.evaluation.result import EvaluationResult, EvaluationTable, metrics_from_meters
from metro_ray.losses.targets import Targets, build_targets
from metro_ray.metrics.accumulate import MeanMeter, Meters, weighted_mean
from metro_ray.metrics.errors import mpjpe, mpve, pa_mpjpe, pa_mpve
from metro_ray.models.precision import Precision, autocast

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.data.sample import Batch

Reduce = Callable[[Meters], Meters]


class RootRelative(NamedTuple):
    """A mesh and the evaluation joints regressed from it, metres, minus the mesh's root."""

    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B J 3"]


class _RowErrors(NamedTuple):
    """Errors of the B rows of a batch, metres, whatever their labels."""

    mpjpe: Float[Tensor, " B"]
    pa_mpjpe: Float[Tensor, " B"]
    mpve: Float[Tensor, " B"]
    pa_mpve: Float[Tensor, " B"]


def evaluate(
    model: nn.Module,
    body: BodyModel,
    batches: Iterable[Batch],
    device: torch.device | str,
    *,
    reduce: Reduce | None = None,
    precision: Precision = "fp32",
    channels_last: bool = False,
    keep_table: bool = False,
    split: str = "val",
) -> EvaluationResult:
    """Measure a model on batches; the model's train/eval mode is restored afterwards.

    Args:
        model: maps normalised images (B, 3, 224, 224) to a `MeshPrediction`.
        body: the body model of the predicted mesh, on `device`.
        batches: this process's share of the data set, possibly none of it; rows that are not valid
            are ignored.
        device: where to compute.
        reduce: merges the meters of all processes (see `metrics.all_reduce_with`); None for one.
        precision: bf16 and fp16 run the network under autocast; errors are float64 either way.
        channels_last: memory format of the images, as the model was trained.
        keep_table: also return the errors of every row of this process.
        split: prefix of the metric names.

    Raises:
        TrainingError: the model predicts numbers that are not finite.
    """
    device = torch.device(device)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def predict(batch: Batch) -> RootRelative:
        images = normalize_images(batch.image, batch.pixel_gain)
        with autocast(device, precision):
            prediction = model(images.contiguous(memory_format=memory_format))
        return root_relative(prediction.vertices[-1].float(), body)

    with eval_mode(model):
        return measure(predict, body, batches, device, reduce, keep_table=keep_table, split=split)


def measure(
    predict: Callable[[Batch], RootRelative],
    body: BodyModel,
    batches: Iterable[Batch],
    device: torch.device | str,
    reduce: Reduce | None = None,
    *,
    keep_table: bool = False,
    split: str,
) -> EvaluationResult:
    """Compare what `predict` returns with the targets of the batches; the body of every evaluation.

    Raises:
        TrainingError: a prediction is not finite.
    """
    meters: Meters = dict.fromkeys(("rows", *_RowErrors._fields), MeanMeter())
    tables: list[EvaluationTable] = []
    with torch.inference_mode():
        for batch in batches:
            if batch.num_rows == 0:
                continue
            batch = batch.to(device)
            predicted = predict(batch)
            _require_finite(predicted, batch)
            targets = build_targets(batch, body)
            errors = _row_errors(predicted, targets, body)
            counts = {
                "mpjpe": targets.has_joints_3d,
                "pa_mpjpe": targets.has_joints_3d,
                "mpve": targets.has_mesh,
                "pa_mpve": targets.has_mesh,
            }
            meters["rows"] = meters["rows"].merge(MeanMeter(0.0, int(targets.valid.sum())))
            for name, flag in counts.items():
                meters[name] = meters[name].merge(weighted_mean(getattr(errors, name), flag))
            if keep_table:
                tables.append(_table(batch, targets, errors))
    merged = reduce(meters) if reduce else meters
    table = _join(tables) if keep_table else None
    return EvaluationResult(metrics=metrics_from_meters(merged, split), table=table)


def root_relative(vertices: Float[Tensor, "B V 3"], body: BodyModel) -> RootRelative:
    """Regress the evaluation joints and subtract the regressed root from both."""
    root = body.root_from_mesh(vertices)
    return RootRelative(vertices - root, body.joints_from_mesh(vertices) - root)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout and batch statistics off, and back to how they were."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _row_errors(predicted: RootRelative, targets: Targets, body: BodyModel) -> _RowErrors:
    joints = targets.joints_3d[..., :3]
    vertices = targets.vertices[-1]
    if body.spec.joint_targets == "layer":
        # These targets are relative to the layer's wrist, which is not the regressed one: without
        # this a perfect mesh would have an error.
        vertices = vertices - body.root_from_mesh(vertices)
    return _RowErrors(
        mpjpe=mpjpe(predicted.joints, joints, body.spec.center_joints),
        pa_mpjpe=pa_mpjpe(predicted.joints, joints),
        mpve=mpve(predicted.vertices, vertices),
        pa_mpve=pa_mpve(predicted.vertices, vertices),
    )


def _require_finite(predicted: RootRelative, batch: Batch) -> None:
    bad: Bool[Tensor, " B"] = ~predicted.vertices.isfinite().all(dim=2).all(dim=1) & batch.valid
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        name = batch.keys[row] if batch.keys else f"row {int(batch.row_id[row])}"
        raise TrainingError(
            f"the model predicts NaN or infinity for {name} and {int(bad.sum()) - 1} more rows of "
            "its batch: training has diverged (try a smaller optim.lr) or the weights are broken"
        )


def _table(batch: Batch, targets: Targets, errors: _RowErrors) -> EvaluationTable:
    rows = targets.valid.nonzero()[:, 0].cpu().numpy()
    keys = tuple(batch.keys[row] for row in rows) if batch.keys else ("",) * len(rows)
    column = {name: value.cpu().numpy()[rows] for name, value in errors._asdict().items()}
    return EvaluationTable(
        row_id=batch.row_id.cpu().numpy()[rows],
        keys=keys,
        has_joints_3d=targets.has_joints_3d.cpu().numpy()[rows],
        has_mesh=targets.has_mesh.cpu().numpy()[rows],
        **column,
    )


def _join(tables: list[EvaluationTable]) -> EvaluationTable:
    if not tables:
        empty = np.zeros(0)
        no_flags = np.zeros(0, bool)
        return EvaluationTable(
            np.zeros(0, np.int64), (), empty, empty, empty, empty, no_flags, no_flags
        )
    arrays = {
        name: np.concatenate([getattr(table, name) for table in tables])
        for name in EvaluationTable._fields
        if name != "keys"
    }
    return EvaluationTable(keys=tuple(key for table in tables for key in table.keys), **arrays)
