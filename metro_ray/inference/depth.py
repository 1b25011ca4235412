"""Depth of the people in a picture, for each of its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32

from metro_ray.errors import DataError
from metro_ray.geometry import raycast
from metro_ray.inference.render import is_tangled
from metro_ray.inference.result import MeshResult


def depth_map(
    results: Sequence[MeshResult], depths: Sequence[float], width: int, height: int
) -> tuple[Float32[np.ndarray, "H W"], Int32[np.ndarray, "H W"]]:
    """Distance along the optical axis of what is nearest, as the overlay shows it.

    Args:
        results: found in the picture.
        depths: of each root from the camera, metres.
        width: of the picture, pixels.
        height: of the picture, pixels.

    Returns:
        Metres, infinity where nobody is; and the number of the person, -1 where nobody is.

    Raises:
        DataError: a mesh that has no surface.
    """
    nearest = np.full((height, width), np.inf, np.float32)
    owner = np.full((height, width), -1, np.int32)
    for number, (result, root) in enumerate(zip(results, depths, strict=True)):
        if is_tangled(result.vertices_px, result.faces):
            raise DataError(
                f"the mesh of person {number} has no surface whose depth could be told: its "
                "triangles run across the whole body, as an untrained network predicts them"
            )
        points = result.vertices_px.astype(np.float64)
        low = np.floor(np.clip(points[:, :2].min(axis=0) - 1, 0, (width, height))).astype(int)
        high = np.ceil(np.clip(points[:, :2].max(axis=0) + 2, 0, (width, height))).astype(int)
        columns, lines = (high - low).tolist()
        if columns < 1 or lines < 1:
            continue
        points[:, :2] -= low
        points[:, 2] = result.vertices[:, 2] + root
        seen = raycast.render(points, result.faces, columns, lines)
        place = np.s_[low[1] : low[1] + lines, low[0] : low[0] + columns]
        nearer = seen.depth < nearest[place]
        nearest[place][nearer] = seen.depth[nearer]
        owner[place][nearer] = number
    return nearest, owner
