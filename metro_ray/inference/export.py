"""Write a result as a file for other programs: OBJ, PLY, GLB, NPZ.

Mesh formats get metres with y up and z towards the viewer, the convention of glTF and of most
viewers, so a standing person stands. NPZ keeps the camera-like frame (y down, z away) and all
else that a result holds.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Float32

from metro_ray.errors import DataError
from metro_ray.inference.result import MeshResult

MESH_FORMATS = (".obj", ".ply", ".glb")
FORMATS = (*MESH_FORMATS, ".npz")


def export_mesh(
    result: MeshResult,
    path: str | Path,
    *,
    origin: Float[np.ndarray, " 3"] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a result in the format of the path's ending; missing folders are made.

    Args:
        result: to write.
        path: of the file.
        origin: where the mesh formats put the root, metres, x right, y down, z away: its
            translation puts the mesh before a camera at the origin that looks along -z with y up,
            as glTF's does. None leaves the root at the origin.
        extra: more arrays for NPZ.

    Raises:
        DataError: an ending that is not one of `FORMATS`.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise DataError(
            f"cannot export {path.name}: the ending must be one of {', '.join(FORMATS)}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if ending == ".npz":
        np.savez_compressed(
            path,
            vertices=result.vertices,
            faces=result.faces,
            joints=result.joints,
            joint_names=np.array(result.joint_set.names),
            camera=result.camera,
            window=np.array(result.window),
            vertices_px=result.vertices_px,
            joints_px=result.joints_px,
            **(extra or {}),
        )
        return path
    _mesh(result, origin).export(path, file_type=ending[1:])
    return path


def people_file(
    results: Sequence[MeshResult], origins: Sequence[Float[np.ndarray, " 3"] | None], kind: str
) -> bytes:
    """All people of a picture as one mesh file; OBJ and GLB keep an object `personN` for each.

    Args:
        results: found in the picture; at least one.
        origins: where each root is put, see `export_mesh`.
        kind: obj, ply or glb.

    Raises:
        DataError: a kind that is no mesh format.
    """
    if f".{kind}" not in MESH_FORMATS:
        raise DataError(f"cannot export {kind}: it must be one of {', '.join(MESH_FORMATS)}")
    meshes = [_mesh(result, origin) for result, origin in zip(results, origins, strict=True)]
    buffer = io.BytesIO()
    if kind == "ply":  # knows no objects
        trimesh.util.concatenate(meshes).export(buffer, file_type=kind)
    else:
        scene = trimesh.Scene()
        for number, mesh in enumerate(meshes):
            scene.add_geometry(mesh, geom_name=f"person{number}")
        scene.export(buffer, file_type=kind)
    return buffer.getvalue()


def export_attention(result: MeshResult, path: str | Path) -> Path:
    """Write a result's attention maps and hidden states as NPZ; missing folders are made.

    Raises:
        DataError: the result was made without `return_attention`.
    """
    if result.attention is None:
        raise DataError("the result holds no attention maps: predict with return_attention=True")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        attentions=result.attention.attentions,
        hidden_states=result.attention.hidden_states,
        joint_names=np.array(result.joint_set.names),
    )
    return path


def _mesh(result: MeshResult, origin: Float[np.ndarray, " 3"] | None) -> trimesh.Trimesh:
    placed = result.vertices if origin is None else result.vertices + origin.astype(np.float32)
    # process=False keeps the vertices' order and number, which is the body model's topology.
    return trimesh.Trimesh(upright(placed), result.faces, process=False)


def upright(points: Float32[np.ndarray, "N 3"]) -> Float32[np.ndarray, "N 3"]:
    """Camera-like frame (y down, z away) to y up, z towards the viewer."""
    return points * np.array([1.0, -1.0, -1.0], np.float32)
