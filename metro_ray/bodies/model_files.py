"""The content of the licensed model files as checked arrays."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from metro_ray.bodies.assets import find_asset
from metro_ray.bodies.levels import LevelData, VertexMap
from metro_ray.bodies.spec import MeshSpec
from metro_ray.bodies.unpickle import read_object_array, read_pickle
from metro_ray.errors import AssetError


class SkinnedModel(NamedTuple):
    """What SMPL and MANO files have in common, metres."""

    vertices: Float[np.ndarray, "V 3"]
    shapes: Float[np.ndarray, "V 3 S"]
    pose_shapes: Float[np.ndarray, "V 3 P"]
    joint_regressor: Float[np.ndarray, "N V"]
    skin_weights: Float[np.ndarray, "V N"]
    parents: tuple[int, ...]
    faces: Int[np.ndarray, "F 3"]
    hand_mean: Float[np.ndarray, "P"] | None
    """MANO's mean finger pose."""


def read_skinned_model(name: str, spec: MeshSpec, assets_root: str | Path | None) -> SkinnedModel:
    """SMPL or MANO from its pickle.

    Raises:
        AssetNotFoundError: the file is not there.
        AssetError: it has other entries or shapes than the model, or unsafe content.
    """
    path = find_asset(name, assets_root)
    content = read_pickle(path)
    vertices, joints = spec.num_vertices, spec.num_pose // 3

    def array(key: str, *shape: int | None) -> np.ndarray:
        if key not in content:
            raise AssetError(f"{path} has no entry {key!r}; it has: {', '.join(sorted(content))}")
        value = content[key]
        value = value.toarray() if scipy.sparse.issparse(value) else np.asarray(value)
        fits = value.ndim == len(shape) and all(
            want is None or want == got for want, got in zip(shape, value.shape, strict=False)
        )
        if not fits or value.dtype.kind not in "fiu":
            wanted = " x ".join("any" if side is None else str(side) for side in shape)
            raise AssetError(
                f"{path}: {key} should be numbers of shape {wanted}, "
                f"got {value.dtype} of shape {value.shape}"
            )
        return value

    shapes = array("shapedirs", vertices, 3, None)
    if shapes.shape[2] < spec.num_betas:
        raise AssetError(f"{path}: shapedirs has {shapes.shape[2]} of {spec.num_betas} components")
    tree = array("kintree_table", 2, joints).astype(np.int64)
    parents = (-1, *(int(parent) for parent in tree[0, 1:]))
    if any(not 0 <= parent < joint for joint, parent in enumerate(parents[1:], start=1)):
        raise AssetError(f"{path}: kintree_table lists a joint before its parent")
    return SkinnedModel(
        vertices=array("v_template", vertices, 3),
        shapes=shapes[:, :, : spec.num_betas],
        pose_shapes=array("posedirs", vertices, 3, 9 * (joints - 1)),
        joint_regressor=array("J_regressor", joints, vertices),
        skin_weights=array("weights", vertices, joints),
        parents=parents,
        faces=array("f", None, 3).astype(np.int64),
        hand_mean=array("hands_mean", spec.num_pose - 3) if spec.kind == "hand" else None,
    )


def read_regressor(
    name: str, shape: tuple[int, int], assets_root: str | Path | None
) -> Float[np.ndarray, "J V"]:
    """A joint regressor from its `.npy` file.

    Raises:
        AssetNotFoundError: the file is not there.
        AssetError: it is damaged or has another shape.
    """
    path = find_asset(name, assets_root)
    try:
        regressor = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise AssetError(f"{path} cannot be read: {error}") from error
    if regressor.shape != shape:
        raise AssetError(f"{path} should have shape {shape}, got {regressor.shape}")
    return regressor


def read_levels(name: str, spec: MeshSpec, assets_root: str | Path | None) -> LevelData:
    """Mesh levels from METRO's sampling file: D (down), U (up) and F (faces), fine to coarse.

    Raises:
        AssetNotFoundError: the file is not there.
        AssetError: its matrices do not have the sizes of the levels, or its content is unsafe.
    """
    path = find_asset(name, assets_root)
    sizes = spec.vertex_levels[::-1]
    steps = len(sizes) - 1
    entries = {key: read_object_array(path, key) for key in ("D", "U", "F")}
    for key, count in (("D", steps), ("U", steps), ("F", steps + 1)):
        if len(entries[key]) < count:
            raise AssetError(f"{path}: {key} has {len(entries[key])} of {count} matrices")
    down: list[VertexMap] = []
    up: list[VertexMap] = []
    for step, (fine, coarse) in enumerate(pairwise(sizes)):
        one = _vertex_map(entries["D"][step], (coarse, fine), f"{path}: D[{step}]")
        up.append(_vertex_map(entries["U"][step], (fine, coarse), f"{path}: U[{step}]"))
        down.append(one if step == 0 else _chain(one, down[-1]))
    faces = [np.asarray(f, np.int64).reshape(-1, 3) for f in entries["F"][1 : steps + 1]]
    return LevelData(down=tuple(down[::-1]), up=tuple(up[::-1]), faces=tuple(faces[::-1]))


def _chain(second: VertexMap, first: VertexMap) -> VertexMap:
    """The map that applies `first`, then `second`."""
    corners = first.corners[second.corners].reshape(len(second.corners), -1)
    weights = (second.weights[..., None] * first.weights[second.corners]).reshape(corners.shape)
    return VertexMap(corners, weights)


def _vertex_map(matrix: object, shape: tuple[int, int], where: str) -> VertexMap:
    got = getattr(matrix, "shape", type(matrix).__name__)
    if not scipy.sparse.issparse(matrix) or got != shape:
        raise AssetError(f"{where} should be a sparse matrix of shape {shape}, got {got}")
    rows = scipy.sparse.csr_matrix(matrix)
    counts = np.diff(rows.indptr)
    corners = np.zeros((shape[0], max(1, counts.max())), np.int64)
    weights = np.zeros(corners.shape)
    filled = np.arange(corners.shape[1]) < counts[:, None]
    corners[filled], weights[filled] = rows.indices, rows.data
    return VertexMap(corners, weights)
