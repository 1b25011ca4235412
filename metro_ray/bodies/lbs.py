"""Linear blend skinning, once for SMPL, MANO and Anny."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class BoneMotion(NamedTuple):
    """Where a posed skeleton is, and how it moves the points of the rest pose."""

    joints: Float[Tensor, "B N 3"]
    """Posed joint positions."""
    transforms: Float[Tensor, "B N 3 4"]
    """[R | t] of each bone: its point x of the rest pose moves to R x + t."""


def move_bones(
    rotations: Float[Tensor, "B N 3 3"],
    rest_joints: Float[Tensor, "B N 3"],
    parents: Sequence[int],
) -> BoneMotion:
    """Forward kinematics: each joint turns in the frame of its parent, about its own position.

    The frames of all joints are aligned with the world in the rest pose, as in SMPL.

    Args:
        rotations: rotation of each joint relative to its parent.
        rest_joints: joint positions of the rest pose, any unit.
        parents: parent of each joint, before it in the list; -1 for the root, which comes first.
    """
    world = [rotations[:, 0]]
    posed = [rest_joints[:, 0]]
    for joint, parent in enumerate(parents[1:], start=1):
        offset = rest_joints[:, joint] - rest_joints[:, parent]
        world.append(world[parent] @ rotations[:, joint])
        posed.append(posed[parent] + _rotate(world[parent], offset))
    turned, joints = torch.stack(world, dim=1), torch.stack(posed, dim=1)
    shift = joints - _rotate(turned, rest_joints)
    return BoneMotion(joints, torch.cat([turned, shift[..., None]], dim=-1))


def skin(
    vertices: Float[Tensor, "B V 3"],
    weights: Float[Tensor, "V N"],
    transforms: Float[Tensor, "B N 3 4"],
) -> Float[Tensor, "B V 3"]:
    """Vertices moved by the weighted mean of their bones' transforms.

    Args:
        vertices: rest pose.
        weights: share of each bone in each vertex; rows sum to 1.
        transforms: of `move_bones`.
    """
    blended = (weights @ transforms.flatten(2)).unflatten(2, (3, 4))
    return _rotate(blended[..., :3], vertices) + blended[..., 3]


def _rotate(
    matrices: Float[Tensor, "*batch 3 3"], points: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3"]:
    return (matrices @ points[..., None])[..., 0]
