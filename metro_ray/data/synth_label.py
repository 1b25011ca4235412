"""The label of a synthetic image, in METRO's fields."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from metro_ray.data.synth_render import Projection
from metro_ray.data.synth_scene import LABEL_DIGITS, Scene

_BOX_MARGIN = 1.2
_PIXELS_PER_SCALE = 200.0


def make_label(
    mesh: str,
    scene: Scene,
    vertices: Float[np.ndarray, "V 3"],
    joints: Float[np.ndarray, "J 3"],
    projection: Projection,
    size: int,
) -> dict[str, Any]:
    """METRO's label record.

    `has_smpl` is 0, for pose and betas are not SMPL's and METRO's own reader must not take them for
    it; `has_mesh` with `body_model` says whose they are.

    Args:
        mesh: body model of pose and betas.
        scene: what was drawn.
        vertices: the posed mesh, metres, camera frame.
        joints: label joints of the same pose, metres, camera frame.
        projection: of the picture.
        size: side of the picture, pixels.

    Returns:
        Box of 1.2 times the mesh's longer side (scale 1 is 200 px); 2D joints in pixels with
        confidence 0 outside the picture (occluded ones keep 1); 3D joints in metres.
    """
    pixels = projection(vertices)[:, :2]
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    points = projection(joints)[:, :2]
    inside = ((points >= 0) & (points <= size - 1)).all(axis=1)
    ones = np.ones(len(joints))
    return {
        "center": np.round(0.5 * (low + high), LABEL_DIGITS),
        "scale": round(_BOX_MARGIN * float(np.max(high - low)) / _PIXELS_PER_SCALE, LABEL_DIGITS),
        "2d_joints": np.round(np.column_stack([points, inside]), LABEL_DIGITS),
        "has_2d_joints": 1,
        "3d_joints": np.round(np.column_stack([joints, ones]), LABEL_DIGITS),
        "has_3d_joints": 1,
        "pose": scene.pose,
        "betas": scene.betas,
        "has_smpl": 0,
        "has_mesh": 1,
        "body_model": mesh,
    }
