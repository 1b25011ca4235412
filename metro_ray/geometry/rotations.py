"""Rotations: axis-angle vectors, matrices, and METRO's way from one to the other."""

from __future__ import annotations

import roma
import torch
from jaxtyping import Float
from torch import Tensor

METRO_ANGLE_OFFSET = 1e-8
"""Added to each component before the norm, so that the zero rotation divides by something."""


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of axis-angle vectors, with the arithmetic of METRO's SMPL and MANO layers.

    The angle is the norm of the vector with 1e-8 added to each component, the axis is the vector
    over that angle, and the matrix comes from the normalised quaternion (METRO's `smpl.py`,
    `rodrigues`). It differs from the exponential map by about 1e-8, is defined at zero, and has a
    finite gradient there.

    Args:
        axis_angle: rotation axis times angle in radians.
    """
    angle = torch.linalg.vector_norm(axis_angle + METRO_ANGLE_OFFSET, dim=-1, keepdim=True)
    half = 0.5 * angle
    quaternion = torch.cat([torch.cos(half), torch.sin(half) * (axis_angle / angle)], dim=-1)
    return quaternion_to_matrix(quaternion)


def quaternion_to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of quaternions (w, x, y, z), which need not have unit length."""
    unit = quaternion / torch.linalg.vector_norm(quaternion, dim=-1, keepdim=True)
    w, x, y, z = unit.unbind(-1)
    ww, xx, yy, zz = w * w, x * x, y * y, z * z
    xy, xz, yz = x * y, x * z, y * z
    wx, wy, wz = w * x, w * y, w * z
    entries = [
        *(ww + xx - yy - zz, 2 * (xy - wz), 2 * (wy + xz)),
        *(2 * (wz + xy), ww - xx + yy - zz, 2 * (yz - wx)),
        *(2 * (xz - wy), 2 * (wx + yz), ww - xx - yy + zz),
    ]
    return torch.stack(entries, dim=-1).reshape(*quaternion.shape[:-1], 3, 3)


def matrix_to_axis_angle(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Axis-angle vectors (radians, length at most pi) of rotation matrices."""
    return roma.rotmat_to_rotvec(matrix)


def mirror_axis_angle(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """The same rotation seen in a mirror across the plane x = 0: y and z change sign."""
    return axis_angle * axis_angle.new_tensor([1.0, -1.0, -1.0])
