"""The predictor to beat: the same mean mesh of the training set for every image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from metro_ray.errors import DataError
from metro_ray.evaluation.evaluate import Gather, RootRelative, measure
from metro_ray.evaluation.result import EvaluationResult
from metro_ray.losses.targets import build_targets

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.data.sample import Batch


class MeanMesh(NamedTuple):
    """Mean of root-relative ground truth, metres, float32, and how many rows are in it."""

    vertices: Float[Tensor, "V 3"]
    joints: Float[Tensor, "J 3"]
    num_mesh_rows: int
    num_joint_rows: int


def mean_mesh(
    batches: Iterable[Batch],
    body: BodyModel,
    device: torch.device | str,
    *,
    max_rows: int | None = None,
) -> MeanMesh:
    """Average the ground truth in one streaming pass; images are not looked at.

    With mesh labels the joints are regressed from the mean mesh, as for any other prediction.
    Without any, the mean mesh is a point and the joints are the mean of the labelled joints.

    Args:
        batches: the training set without augmentation, in any order.
        body: the body model of the predicted mesh, on `device`.
        device: where to compute.
        max_rows: stop after about this many labelled rows; None takes them all. The rows
            used are in the result.

    Raises:
        DataError: no row carries a mesh or 3D joints.
    """
    spec = body.spec
    vertices = torch.zeros(spec.num_vertices, 3, dtype=torch.float64, device=device)
    joints = torch.zeros(spec.num_joints, 3, dtype=torch.float64, device=device)
    num_mesh_rows = num_joint_rows = 0
    with torch.inference_mode():
        for batch in batches:
            if batch.num_rows == 0:
                continue
            targets = build_targets(batch.to(device), body)
            vertices += targets.vertices[-1][targets.has_mesh].double().sum(dim=0)
            joints += targets.joints_3d[..., :3][targets.has_joints_3d].double().sum(dim=0)
            num_mesh_rows += int(targets.has_mesh.sum())
            num_joint_rows += int(targets.has_joints_3d.sum())
            if max_rows is not None and max(num_mesh_rows, num_joint_rows) >= max_rows:
                break
        if num_mesh_rows == 0 and num_joint_rows == 0:
            raise DataError(
                "the training set has no row with a mesh or 3D joints, so it has no mean pose to "
                "compare with; check has_smpl and has_3d_joints of its label file"
            )
        mean = (vertices / max(num_mesh_rows, 1)).float()
        if num_mesh_rows:
            mean_joints = body.joints_from_mesh(mean[None])[0]
        else:
            mean_joints = (joints / num_joint_rows).float()
    return MeanMesh(mean, mean_joints, num_mesh_rows, num_joint_rows)


def evaluate_baseline(
    mean: MeanMesh,
    body: BodyModel,
    batches: Iterable[Batch],
    device: torch.device | str,
    *,
    gather: Gather | None = None,
) -> EvaluationResult:
    """Metrics of predicting the mean mesh for every row, named `baseline/mpjpe_mm` and so on.

    The same functions as for a model, Procrustes alignment included.
    """
    vertices, joints = mean.vertices.to(device), mean.joints.to(device)

    def predict(batch: Batch) -> RootRelative:
        return RootRelative(
            vertices.expand(batch.num_rows, -1, -1), joints.expand(batch.num_rows, -1, -1)
        )

    return measure(predict, body, batches, device, gather, split="baseline")
