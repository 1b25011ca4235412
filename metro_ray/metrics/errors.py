"""Errors of joints and meshes, one number a sample or a joint of it, in metres.

METRO's conventions (metro/utils/metric_logger.py, metric_pampjpe.py and run_metro_bodymesh.py): the
confidence of single joints is ignored; which samples count is decided where errors are averaged.
All arithmetic is float64, so a mean over a data set does not depend on how it was cut into batches.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from metro_ray.geometry.procrustes import similarity_align


def distances(
    prediction: Float[Tensor, "B N 3"], target: Float[Tensor, "B N 3"]
) -> Float[Tensor, "B N"]:
    """Euclidean distance of corresponding points, as they are."""
    return (prediction.double() - target.double()).norm(dim=-1)


def aligned_distances(
    prediction: Float[Tensor, "B N 3"], target: Float[Tensor, "B N 3"]
) -> Float[Tensor, "B N"]:
    """Distances after the best rotation, scale and translation (no reflection)."""
    target = target.double()
    return distances(similarity_align(prediction.double(), target), target)


def joint_residuals(
    prediction: Float[Tensor, "B J 3"],
    target: Float[Tensor, "B J 3"],
    center_joints: tuple[int, ...],
) -> Float[Tensor, "B J 3"]:
    """Prediction minus target, both sides minus the mean of `center_joints`.

    Args:
        prediction: joints in metres, any origin.
        target: joints in metres, any origin.
        center_joints: both hips for bodies (J14 indices 2 and 3), the wrist for hands.
    """
    return _centre(prediction, center_joints) - _centre(target, center_joints)


def mean_distance(
    prediction: Float[Tensor, "B N 3"], target: Float[Tensor, "B N 3"]
) -> Float[Tensor, " B"]:
    """Mean Euclidean distance of corresponding points, as they are."""
    return distances(prediction, target).mean(dim=-1)


def mpjpe(
    prediction: Float[Tensor, "B J 3"],
    target: Float[Tensor, "B J 3"],
    center_joints: tuple[int, ...],
) -> Float[Tensor, " B"]:
    """Mean per-joint position error of `joint_residuals`."""
    return joint_residuals(prediction, target, center_joints).norm(dim=-1).mean(dim=-1)


def pa_mpjpe(
    prediction: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]
) -> Float[Tensor, " B"]:
    """Mean per-joint error after the best rotation, scale and translation (no reflection)."""
    return aligned_distances(prediction, target).mean(dim=-1)


def mpve(prediction: Float[Tensor, "B V 3"], target: Float[Tensor, "B V 3"]) -> Float[Tensor, " B"]:
    """Mean per-vertex error of two root-relative meshes; METRO's mPVE, which does not re-centre."""
    return mean_distance(prediction, target)


def pa_mpve(
    prediction: Float[Tensor, "B V 3"], target: Float[Tensor, "B V 3"]
) -> Float[Tensor, " B"]:
    """Mean per-vertex error after the best rotation, scale and translation (no reflection)."""
    return aligned_distances(prediction, target).mean(dim=-1)


def _centre(
    joints: Float[Tensor, "B J 3"], center_joints: tuple[int, ...]
) -> Float[Tensor, "B J 3"]:
    joints = joints.double()
    return joints - joints[:, list(center_joints)].mean(dim=1, keepdim=True)
