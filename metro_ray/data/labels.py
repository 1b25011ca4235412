"""METRO's label records as checked arrays.

Fields: center, scale, 2d_joints ([L][3] or [1][L][3]), has_2d_joints, 3d_joints ([L][4] or
[1][L][4]), has_3d_joints, pose, betas, has_smpl; gender is ignored (METRO never uses it). Our own
files add `body_model` (which body model pose and betas belong to; smpl or mano when left out) and
`has_mesh` (whether they are to be used; METRO then reads has_smpl 0).

Numbers are always floats. (METRO keeps whole-number lists as integers and then truncates the
normalised values.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from metro_ray.errors import DataError

if TYPE_CHECKING:
    from metro_ray.bodies.spec import MeshSpec

REQUIRED_FIELDS = (
    "center",
    "scale",
    "2d_joints",
    "has_2d_joints",
    "3d_joints",
    "has_3d_joints",
    "pose",
    "betas",
)
DEFAULT_BODY_MODEL = {"body": "smpl", "hand": "mano"}


class Label(NamedTuple):
    """One label record."""

    center: tuple[float, float]
    """Box centre, image pixels."""
    scale: float
    """Box side / 200 px."""
    keypoints_2d: Float[np.ndarray, "L 3"]
    """Image pixels and confidence."""
    joints_3d: Float[np.ndarray, "L 4"]
    """Metres, camera axes (x right, y down, z away), not root-relative; and confidence."""
    pose: Float[np.ndarray, " P"]
    """Axis-angle, radians; zeros when the row belongs to another body model."""
    betas: Float[np.ndarray, " S"]
    has_mesh: bool
    """pose and betas are labels of this spec's body model."""
    has_joints_3d: bool
    has_keypoints_2d: bool


def parse_label(record: Mapping[str, Any], spec: MeshSpec) -> Label:
    """Check a record and turn it into arrays.

    Raises:
        DataError: a missing field, a wrong shape, a value that is not a finite number. Names the
            field, not the row: the caller knows the row.
    """
    missing = [name for name in REQUIRED_FIELDS if name not in record]
    if "has_smpl" not in record and "has_mesh" not in record:
        missing.append("has_smpl")
    if missing:
        raise DataError(f"label lacks {', '.join(missing)}; METRO's label fields are required")
    num_joints = len(spec.label_joints)
    center = _array(record, "center", (2,))
    scale = record["scale"]
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise DataError(f"label field scale must be a finite number, got {scale!r}")
    has_joints_3d, has_keypoints_2d = _flag(record, "has_3d_joints"), _flag(record, "has_2d_joints")
    body_model = record.get("body_model", DEFAULT_BODY_MODEL[spec.kind])
    same_model = body_model == spec.name
    has_mesh = same_model and _flag(record, "has_mesh" if "has_mesh" in record else "has_smpl")
    zeros = np.zeros
    return Label(
        center=(float(center[0]), float(center[1])),
        scale=float(scale),
        keypoints_2d=_array(record, "2d_joints", (num_joints, 3), has_keypoints_2d),
        joints_3d=_array(record, "3d_joints", (num_joints, 4), has_joints_3d),
        pose=_array(record, "pose", (spec.num_pose,), has_mesh)
        if same_model
        else zeros(spec.num_pose),
        betas=(
            _array(record, "betas", (spec.num_betas,), has_mesh)
            if same_model
            else zeros(spec.num_betas)
        ),
        has_mesh=has_mesh,
        has_joints_3d=has_joints_3d,
        has_keypoints_2d=has_keypoints_2d,
    )


def _flag(record: Mapping[str, Any], name: str) -> bool:
    value = record[name]
    if value not in (0, 1):
        raise DataError(f"label field {name} must be 0 or 1, got {value!r}")
    return value == 1


def _array(
    record: Mapping[str, Any], name: str, shape: tuple[int, ...], used: bool = True
) -> np.ndarray:
    """A field as float64; a leading axis of 1 is dropped, unused fields with NaN become 0."""
    try:
        array = np.asarray(record[name], dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"label field {name} must be numbers of shape {shape}: {error}") from error
    if array.shape == (1, *shape):
        array = array[0]
    if array.shape != shape:
        raise DataError(f"label field {name} must have shape {shape}, got {array.shape}")
    if np.isfinite(array).all():
        return array
    if used:
        raise DataError(f"label field {name} holds NaN or infinite numbers")
    return np.zeros(shape)
