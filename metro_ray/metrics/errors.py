"""Errors of joints and meshes, one number a sample, in metres.

METRO's conventions (metro/utils/metric_logger.py, metric_pampjpe.py and run_metro_bodymesh.py): the
confidence of single joints is ignored; which samples count is decided where errors are averaged.
All arithmetic is float64, so a mean over a data set does not depend on how it was cut into batches.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from metro_ray.geometry.procrustes import similarity_align


def mean_distance(
    prediction: Float[Tensor, "B N 3"], target: Float[Tensor, "B N 3"]
) -> Float[Tensor, " B"]:
    """Mean Euclidean distance of corresponding points, as they are."""
    return (prediction.double() - target.double()).norm(dim=-1).mean(dim=-1)


def mpjpe(
    prediction: Float[Tensor, "B J 3"],
    target: Float[Tensor, "B J 3"],
    center_joints: tuple[int, ...],
) -> Float[Tensor, " B"]:
    """Mean per-joint position error, both sides minus the mean of `center_joints`.

    Args:
        prediction: joints in metres, any origin.
        target: joints in metres, any origin.
        center_joints: both hips for bodies (J14 indices 2 and 3), the wrist for hands.
    """
    return mean_distance(_centre(prediction, center_joints), _centre(target, center_joints))


def pa_mpjpe(
    prediction: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]
) -> Float[Tensor, " B"]:
    """Mean per-joint error after the best rotation, scale and translation (no reflection)."""
    target = target.double()
    return mean_distance(similarity_align(prediction.double(), target), target)


def mpve(prediction: Float[Tensor, "B V 3"], target: Float[Tensor, "B V 3"]) -> Float[Tensor, " B"]:
    """Mean per-vertex error of two root-relative meshes; METRO's mPVE, which does not re-centre."""
    return mean_distance(prediction, target)


def pa_mpve(
    prediction: Float[Tensor, "B V 3"], target: Float[Tensor, "B V 3"]
) -> Float[Tensor, " B"]:
    """Mean per-vertex error after the best rotation, scale and translation (no reflection)."""
    return pa_mpjpe(prediction, target)


def _centre(
    joints: Float[Tensor, "B J 3"], center_joints: tuple[int, ...]
) -> Float[Tensor, "B J 3"]:
    joints = joints.double()
    return joints - joints[:, list(center_joints)].mean(dim=1, keepdim=True)
