"""Joint regressors of the open body and hand: label joints as fixed sums of mesh vertices.

The joints of a rig are not part of the mesh, but METRO regresses joints from vertices. Each rig
joint is therefore fitted by a non-negative combination, with sum 1, of the vertices around it, over
random shapes and poses. Landmarks on the skin (fingertips, nose, ears, crown) are single vertices.
Against the rig on other shapes and poses the rows are 6 mm off on average (hips 12, shoulders 9,
ankles 3) for the body and 0.4 mm for the hand.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import nnls
from scipy.spatial import KDTree

from metro_ray.bodies.joints import J24

_NEAR_SHARE = 0.08  # of the mesh: enough to surround a knee, whose nearest skin is on one side
_MAX_CANDIDATES = 200
_SUM_WEIGHT = 10.0  # metres; how hard the weights of a row are held to the sum 1 while fitting


class PosedSamples(NamedTuple):
    """The same random bodies as rig joints and as vertices."""

    joints: Float[np.ndarray, "S N 3"]
    vertices: Float[np.ndarray, "S V 3"]


def fit_row(
    samples: PosedSamples, joint: int, near: Int[np.ndarray, "M"]
) -> Float[np.ndarray, "V"]:
    """Non-negative weights, with sum 1, of some vertices that best give one rig joint."""
    origin = samples.joints[:, joint]
    local = (samples.vertices[:, near] - origin[:, None]).transpose(0, 2, 1).reshape(-1, len(near))
    system = np.vstack([local, np.full((1, len(near)), _SUM_WEIGHT)])
    target = np.append(np.zeros(len(local)), _SUM_WEIGHT)
    weights = nnls(system, target)[0]
    row = np.zeros(samples.vertices.shape[1])
    row[near] = weights / weights.sum()
    return row


def fit_rows(
    rest_vertices: Float[np.ndarray, "V 3"],
    rest_joints: Float[np.ndarray, "N 3"],
    samples: PosedSamples,
) -> Float[np.ndarray, "N V"]:
    """One row for each rig joint, from the vertices nearest to it in the rest pose."""
    count = int(_NEAR_SHARE * len(rest_vertices))
    near = np.asarray(KDTree(rest_vertices).query(rest_joints, k=count)[1])
    near = near[:, :: max(1, round(count / _MAX_CANDIDATES))]
    return np.stack([fit_row(samples, joint, rows) for joint, rows in enumerate(near)])


def mirror_of(vertices: Float[np.ndarray, "V 3"]) -> Int[np.ndarray, "V"]:
    """The vertex at each vertex's place in the mirror across x = 0."""
    return np.asarray(KDTree(vertices * [-1.0, 1.0, 1.0]).query(vertices)[1])


def body_regressor(
    names: tuple[str, ...],
    rig_rows: Float[np.ndarray, "N V"],
    rest_vertices: Float[np.ndarray, "V 3"],
    head_vertices: Int[np.ndarray, "H"],
) -> Float[np.ndarray, "24 V"]:
    """J24 rows of the open body, exactly mirror-symmetric.

    Limb joints, eyes, neck (`neck02`), spine (`spine02`) and jaw (`head`, the base of the skull)
    are rig joints; the pelvis lies between the hips, the thorax between `spine01` and `neck01`, the
    head halfway from the base of the skull to the crown; nose, ears and crown are vertices.

    Args:
        names: rig joints of `rig_rows`.
        rig_rows: regressors of the rig joints.
        rest_vertices: rest pose, y up, facing z, metres.
        head_vertices: vertices that move with the head only.
    """

    def vertex(score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        row = np.zeros(len(rest_vertices))
        row[head_vertices[np.argmax(score(rest_vertices[head_vertices]))]] = 1.0
        return row

    def rig(name: str) -> np.ndarray:
        return rig_rows[names.index(name)]

    crown = vertex(lambda p: p[:, 1] - 10.0 * np.abs(p[:, 0]))
    nose = vertex(lambda p: p[:, 2] - 10.0 * np.abs(p[:, 0]))
    left = {
        "Ankle": rig("foot.L"),
        "Knee": rig("lowerleg01.L"),
        "Hip": rig("upperleg01.L"),
        "Wrist": rig("wrist.L"),
        "Elbow": rig("lowerarm01.L"),
        "Shoulder": rig("upperarm01.L"),
        "Eye": rig("eye.L"),
        "Ear": vertex(lambda p: p[:, 0]),
    }
    mirror = mirror_of(rest_vertices)
    sides = {f"L_{name}": row for name, row in left.items()}
    sides |= {f"R_{name}": row[mirror] for name, row in left.items()}
    centre = {
        "Neck": rig("neck02"),
        "Top_of_Head": crown,
        "Pelvis": 0.5 * (sides["L_Hip"] + sides["R_Hip"]),
        "Thorax": 0.5 * (rig("spine01") + rig("neck01")),
        "Spine": rig("spine02"),
        "Jaw": rig("head"),
        "Head": 0.5 * (rig("head") + crown),
        "Nose": nose,
    }
    rows = sides | {name: 0.5 * (row + row[mirror]) for name, row in centre.items()}
    return np.stack([rows[name] for name in J24.names])


def hand_regressor(
    names: tuple[str, ...],
    rig_rows: Float[np.ndarray, "N V"],
    rest_vertices: Float[np.ndarray, "V 3"],
    rest_joints: Float[np.ndarray, "N 3"],
    owner: Int[np.ndarray, "V"],
) -> Float[np.ndarray, "21 V"]:
    """J21 rows of the open hand: rig joints, and as tips the vertex farthest along the last bone.

    Args:
        names: rig joints: `wrist.R`, then `finger1-1.R` .. `finger5-3.R`, thumb first.
        rig_rows: regressors of the rig joints.
        rest_vertices: rest pose, metres.
        rest_joints: rest pose, metres.
        owner: rig joint that moves each vertex most.
    """
    rows = [rig_rows[names.index("wrist.R")]]
    for finger in range(1, 6):
        chain = [names.index(f"finger{finger}-{part}.R") for part in (1, 2, 3)]
        rows += [rig_rows[joint] for joint in chain]
        own = np.flatnonzero(owner == chain[-1])
        axis = rest_joints[chain[2]] - rest_joints[chain[1]]
        tip = np.zeros(len(rest_vertices))
        tip[own[np.argmax(rest_vertices[own] @ axis)]] = 1.0
        rows.append(tip)
    return np.stack(rows)
