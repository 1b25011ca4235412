"""The three loss terms of METRO (paper sec. 3.4), on tensors and masks.

Every term is a scalar and stays in the graph when no row carries its label: the difference of a
row without the label is replaced by 0 before it is squared or made absolute, so such a row has a
gradient of exactly 0 (not None, and not NaN whatever its label columns hold). Distributed training
then sees a gradient for every parameter on every rank. METRO returns a detached zero of shape (1,).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def keypoints_2d_loss(
    prediction: Float[Tensor, "B J 2"],
    target: Float[Tensor, "B J 3"],
    valid: Bool[Tensor, " B"],
) -> Float[Tensor, ""]:
    """Mean of confidence * squared error over valid rows x joints x 2.

    Args:
        prediction: projected joints, crop coordinates in [-1, 1].
        target: labelled keypoints, crop coordinates, and confidence.
        valid: rows that count. METRO ignores its has_2d_joints flag: a row without 2D labels has
            confidence 0 and still counts in the denominator.
    """
    return _weighted_square(prediction, target, valid)


def joints_3d_loss(
    prediction: Float[Tensor, "B J 3"],
    target: Float[Tensor, "B J 4"],
    has_joints_3d: Bool[Tensor, " B"],
    center_joints: tuple[int, ...],
) -> Float[Tensor, ""]:
    """Mean of confidence * squared error over labelled rows x joints x 3, both sides re-centred.

    Args:
        prediction: joints in metres, any origin.
        target: labelled joints in metres, any origin, and confidence. Joints of confidence 0 count
            in the denominator.
        has_joints_3d: rows that carry 3D joints.
        center_joints: the mean of these joints is the origin (body: both hips; hand: the wrist).
    """
    centred = torch.cat([_centre(target[..., :3], center_joints), target[..., 3:]], dim=-1)
    return _weighted_square(_centre(prediction, center_joints), centred, has_joints_3d)


def vertices_loss(
    prediction: Float[Tensor, "B V 3"],
    target: Float[Tensor, "B V 3"],
    has_mesh: Bool[Tensor, " B"],
) -> Float[Tensor, ""]:
    """Mean absolute difference over labelled rows x vertices x 3, metres.

    The target is root-relative; the prediction is taken as it is, which teaches it to be.
    """
    difference = _labelled(_at_least_float32(prediction) - target, has_mesh)
    return _mean(difference.abs(), has_mesh)


def _weighted_square(
    prediction: Float[Tensor, "B J D"], target: Float[Tensor, "B J D+1"], keep: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    difference = _labelled(_at_least_float32(prediction) - target[..., :-1], keep)
    confidence = _labelled(target[..., -1:], keep)
    return _mean(confidence * difference.square(), keep)


def _labelled(
    values: Float[Tensor, " B *rest"], keep: Bool[Tensor, " B"]
) -> Float[Tensor, " B *rest"]:
    return torch.where(keep.reshape(-1, *[1] * (values.ndim - 1)), values, 0.0)


def _mean(error: Float[Tensor, " B *rest"], keep: Bool[Tensor, " B"]) -> Float[Tensor, ""]:
    per_row = error[0].numel() if len(error) else 1
    return error.sum() / (keep.sum() * per_row).clamp(min=1)


def _centre(
    joints: Float[Tensor, "B J 3"], center_joints: tuple[int, ...]
) -> Float[Tensor, "B J 3"]:
    joints = _at_least_float32(joints)
    return joints - joints[:, list(center_joints)].mean(dim=1, keepdim=True)


def _at_least_float32(values: Tensor) -> Tensor:
    """Autocast hands over bfloat16, whose steps are millimetres at one metre."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
