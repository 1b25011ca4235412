"""The one evaluation loop (METRO's run_validate, with exact averages).

As in METRO, predicted joints are regressed from the predicted full mesh, not taken from the joint
tokens, and mesh and joints are both made relative to the regressed root. Unlike METRO, every row
counts once; see `metro_ray.metrics.metro_compat` for what the original averages would have been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from metro_ray.data.normalize import normalize_images
from metro_ray.errors import TrainingError
from metro_ray.evaluation.figures import figures_of
from metro_ray.evaluation.result import EvaluationResult, EvaluationTable, join_tables
from metro_ray.losses.targets import Targets, build_targets
from metro_ray.metrics.errors import aligned_distances, joint_residuals, mpve, pa_mpve
from metro_ray.metrics.sequences import (
    Frames,
    acceleration_errors,
    frame_name,
    join_frames,
    person_of,
)
from metro_ray.models.precision import Precision, autocast

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.data.sample import Batch

Gather = Callable[[Any], list[Any]]
"""One picklable object of every process, by rank, on every process."""


class RootRelative(NamedTuple):
    """A mesh and the evaluation joints regressed from it, metres, minus the mesh's root."""

    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B J 3"]


class _Rows(NamedTuple):
    """What a batch adds: its errors, and those of its rows that may be frames of a video."""

    table: EvaluationTable
    frames: Frames


def evaluate(
    model: nn.Module,
    body: BodyModel,
    batches: Iterable[Batch],
    device: torch.device | str,
    *,
    gather: Gather | None = None,
    precision: Precision = "fp32",
    channels_last: bool = False,
    split: str = "val",
) -> EvaluationResult:
    """Measure a model on batches; the model's train/eval mode is restored afterwards.

    Args:
        model: maps normalised images (B, 3, 224, 224) to a `MeshPrediction`.
        body: the body model of the predicted mesh, on `device`.
        batches: this process's share of the data set, possibly none of it; rows that are not valid
            are ignored.
        device: where to compute.
        gather: collects the tables of all processes; None for one.
        precision: bf16 and fp16 run the network under autocast; errors are float64 either way.
        channels_last: memory format of the images, as the model was trained.
        split: prefix of the metric names.

    Raises:
        TrainingError: the model predicts numbers that are not finite, or a row came twice.
    """
    device = torch.device(device)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def predict(batch: Batch) -> RootRelative:
        images = normalize_images(batch.image, batch.pixel_gain)
        with autocast(device, precision):
            prediction = model(images.contiguous(memory_format=memory_format))
        return root_relative(prediction.vertices[-1].float(), body)

    with eval_mode(model):
        return measure(predict, body, batches, device, gather, split=split)


def measure(
    predict: Callable[[Batch], RootRelative],
    body: BodyModel,
    batches: Iterable[Batch],
    device: torch.device | str,
    gather: Gather | None = None,
    *,
    split: str,
) -> EvaluationResult:
    """Compare what `predict` returns with the targets of the batches; the body of every evaluation.

    Raises:
        TrainingError: a prediction is not finite, or a row came twice.
    """
    own: list[_Rows] = []
    with torch.inference_mode():
        for batch in batches:
            if batch.num_rows == 0:
                continue
            batch = batch.to(device)
            predicted = predict(batch)
            _require_finite(predicted, batch)
            own.append(_rows(batch, predicted, build_targets(batch, body), body))
    spec = body.spec
    mine = _Rows(
        join_tables((rows.table for rows in own), spec.num_joints),
        join_frames((rows.frames for rows in own), spec.num_joints),
    )
    everywhere: list[_Rows] = [mine] if gather is None else gather(mine)
    table = join_tables((rows.table for rows in everywhere), spec.num_joints)
    found = acceleration_errors(join_frames((rows.frames for rows in everywhere), spec.num_joints))
    table.accel[np.searchsorted(table.row_id, found.row_id)] = found.errors
    figures = figures_of(table, spec.kind, spec.joints.names)
    return EvaluationResult(metrics=figures.metrics(split), figures=figures, table=table)


def root_relative(vertices: Float[Tensor, "B V 3"], body: BodyModel) -> RootRelative:
    """Regress the evaluation joints and subtract the regressed root from both."""
    root = body.root_from_mesh(vertices)
    return RootRelative(vertices - root, body.joints_from_mesh(vertices) - root)


def target_mesh(targets: Targets, body: BodyModel) -> Float[Tensor, "B V 3"]:
    """The labelled mesh minus its regressed root, as predictions are measured; metres."""
    vertices = targets.vertices[-1]
    if body.spec.joint_targets == "layer":
        # These targets are relative to the layer's wrist, which is not the regressed one: without
        # this a perfect mesh would have an error.
        vertices = vertices - body.root_from_mesh(vertices)
    return vertices


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout and batch statistics off, and back to how they were."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _rows(batch: Batch, predicted: RootRelative, targets: Targets, body: BodyModel) -> _Rows:
    """Errors of a batch's valid rows, on the CPU."""
    joints = targets.joints_3d[..., :3]
    vertices = target_mesh(targets, body)
    residuals = joint_residuals(predicted.joints, joints, body.spec.center_joints)
    per_joint = residuals.norm(dim=-1)
    aligned = aligned_distances(predicted.joints, joints)
    rows = targets.valid.nonzero()[:, 0].cpu().numpy()
    keys = tuple(batch.keys[row] for row in rows) if batch.keys else ("",) * len(rows)

    def column(values: Tensor) -> np.ndarray:
        return values.cpu().numpy()[rows]

    table = EvaluationTable(
        row_id=column(batch.row_id),
        keys=keys,
        source=column(batch.source),
        mpjpe=column(per_joint.mean(dim=-1)),
        pa_mpjpe=column(aligned.mean(dim=-1)),
        mpve=column(mpve(predicted.vertices, vertices)),
        pa_mpve=column(pa_mpve(predicted.vertices, vertices)),
        accel=np.full(len(rows), np.nan),
        has_joints_3d=column(targets.has_joints_3d),
        has_mesh=column(targets.has_mesh),
        joint_errors=column(per_joint.float()),
        pa_joint_errors=column(aligned.float()),
    )
    return _Rows(table, _frames(table, column(residuals.float()), column(batch.betas)))


def _frames(
    table: EvaluationTable,
    residuals: Float32[np.ndarray, "N J 3"],
    betas: Float[np.ndarray, "N S"],
) -> Frames:
    names = [frame_name(key) for key in table.keys]
    labelled = zip(names, table.has_joints_3d.tolist(), strict=True)
    chosen = [i for i, (name, has) in enumerate(labelled) if name is not None and has]
    return Frames(
        table.row_id[chosen],
        tuple(name for i in chosen if (name := names[i]) is not None),
        person_of(np.where(table.has_mesh[:, None], betas, 0.0)[chosen]),
        residuals[chosen],
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
