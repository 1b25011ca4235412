"""The subject's surface: which part each vertex belongs to, and its colours under clothes.

Parts are found on the rest pose by the nearest limb segment, so any body model with METRO's
joints can be dressed; garments end where a coordinate that runs along the limbs passes a
threshold, evaluated per pixel, which keeps hems sharp whatever the size of the faces.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from metro_ray.data.synth_scene import Look, Pattern

TORSO, ARM, LEG, HEAD = range(4)

# Columns of `Surface.fields`: rest position, then the coordinates that garments are cut by.
_POSITION = slice(0, 3)
_ARM_T, _LEG_T, _TORSO_T = 3, 4, 5

# Half the width of a garment's opening at the neck, metres.
_NECK_OPENING = 0.08
# Rings that the forearm behind a hand is made of.
_FOREARM_RINGS = 9
_FOREARM_LENGTH = 0.25  # metres
# Typical half thickness of the limbs in metres: a point on a thick limb is "near" from farther.
_THICKNESS = {"torso": 0.13, "head": 0.09, "upper_arm": 0.05, "forearm": 0.04, "hand": 0.05,
              "thigh": 0.08, "shin": 0.06, "foot": 0.05}  # fmt: skip


class Surface(NamedTuple):
    """What colouring needs to know of the mesh.

    Attributes:
        faces: triangles to draw.
        part: part of each face, `TORSO` to `HEAD`; all `ARM` for a hand.
        fields: per vertex: rest position (metres, y up, z front); arm coordinate (0 shoulder,
            1 elbow, 2 wrist, 3 fingertips); leg coordinate (0 hip, 1 knee, 2 ankle, 3 toes);
            torso coordinate (0 hips, 1 neck, 2 top of the head).
        neck: the neck joint, rest frame; zeros for a hand.
        face_center: centre of the head, rest frame; zeros for a hand.
        eyes: rest positions of the eyes, empty for a hand.
    """

    faces: Int[np.ndarray, "F 3"]
    part: Int[np.ndarray, "F"]
    fields: Float32[np.ndarray, "V 6"]
    neck: Float[np.ndarray, "3"]
    face_center: Float[np.ndarray, "3"]
    eyes: Float[np.ndarray, "_ 3"]


def body_surface(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    joints: Mapping[str, Float[np.ndarray, "3"]],
) -> Surface:
    """Divide a body into parts.

    Args:
        vertices: rest pose in metres, y up, z to the front.
        faces: triangles.
        joints: rest positions by J24 name.
    """
    names, starts, ends, radii = zip(*_segments(joints))
    distance, along = _project(vertices, np.stack(starts), np.stack(ends))
    nearest = np.argmin(distance - np.array(radii), axis=1)
    t = np.clip(along[np.arange(len(vertices)), nearest], 0, 1)
    fields = np.zeros((len(vertices), 6), dtype=np.float32)
    fields[:, _POSITION] = vertices
    part = np.zeros(len(vertices), dtype=np.int64)
    for index, name in enumerate(names):
        mine = nearest == index
        limb, column, offset = _PLACES[name]
        part[mine] = limb
        fields[mine, column] = t[mine] + offset
        if limb == ARM:
            fields[mine, _TORSO_T] = 0.8  # a sleeve's end of the faces that join arm and torso
    return Surface(
        faces=faces,
        part=np.sort(part[faces], axis=1)[:, 1],
        fields=fields,
        neck=joints["Neck"],
        face_center=0.5 * (joints["Head"] + joints["Jaw"]),
        eyes=np.stack([joints["L_Eye"], joints["R_Eye"]]),
    )


def hand_surface(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], num_hand: int
) -> Surface:
    """A hand with its forearm (`with_forearm`): arm coordinate 2 on the hand, less behind it."""
    fields = np.zeros((len(vertices), 6), dtype=np.float32)
    fields[:, _POSITION] = vertices
    fields[:num_hand, _ARM_T] = 2.0
    rings = vertices[num_hand:].reshape(_FOREARM_RINGS, -1, 3).mean(axis=1)
    reach = np.linalg.norm(rings - rings[0], axis=1) / _FOREARM_LENGTH
    fields[num_hand:, _ARM_T] = np.repeat(2.0 - reach, (len(vertices) - num_hand) // _FOREARM_RINGS)
    part, nowhere = np.full(len(faces), ARM), np.zeros(3)
    return Surface(faces, part, fields, nowhere, nowhere, np.zeros((0, 3)))


def albedo(
    surface: Surface,
    look: Look,
    face_index: Int[np.ndarray, "N"],
    fields: Float32[np.ndarray, "N 6"],
) -> Float32[np.ndarray, "N 3"]:
    """Colour (sRGB) of surface points.

    Args:
        surface: the dressed mesh.
        look: colours and cuts.
        face_index: face of each point.
        fields: `Surface.fields` blended at each point.
    """
    part = surface.part[face_index]
    arm, leg, torso = fields[:, _ARM_T], fields[:, _LEG_T], fields[:, _TORSO_T]
    color = np.broadcast_to(look.skin, (len(part), 3)).astype(np.float32)
    if len(surface.eyes):
        _paint_head(color, surface, look, part == HEAD, fields[:, _POSITION])
    body, arms, legs = part == TORSO, part == ARM, part == LEG
    bottom = (body & (torso < max(look.hem, 0.06))) | (legs & (leg < look.leg))
    # The opening at the neck goes down to the neckline but leaves the shoulders covered.
    beside = np.abs(fields[:, 0] - surface.neck[0]) > _NECK_OPENING
    covered = body & (torso >= look.hem) & ((torso < look.neckline) | (beside & (torso < 0.999)))
    top = covered | (arms & (arm < look.sleeve))
    if look.hem < 0:
        top |= legs & (leg < -look.hem)
    for mask, pattern in ((bottom, look.bottom), (top, look.top)):
        rows = np.flatnonzero(mask)
        color[rows] = _cloth(pattern, fields[rows])
    color[legs & (leg > 2.0)] = look.shoes
    if look.gloves:
        color[arms & (arm > 1.97)] = look.shoes
    return color


def with_forearm(
    vertices: Float[np.ndarray, "V 3"], loop: Int[np.ndarray, "L"]
) -> Float[np.ndarray, "V+R*L 3"]:
    """Append rings that continue the wrist's open edge, so that no hand floats in the air."""
    edge = vertices[loop]
    center = edge.mean(axis=0)
    normal = np.cross(edge, np.roll(edge, -1, axis=0)).sum(axis=0)
    normal /= np.linalg.norm(normal)
    if normal @ (vertices.mean(axis=0) - center) > 0:
        normal = -normal
    size = np.linalg.norm(edge - center, axis=1).mean()
    length = np.linspace(0.0, 9.0, _FOREARM_RINGS + 1)[1:]
    widen = np.interp(length, [0.0, 0.8, 3.0, 9.0], [1.0, 0.98, 1.12, 1.45])
    rings = (
        center + widen[:, None, None] * (edge - center) + (length * size)[:, None, None] * normal
    )
    return np.concatenate([vertices, rings.reshape(-1, 3)])


def wrist_loop(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "L"]:
    """Vertices of the mesh's one open edge, in order along it, running with the faces."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    seen = {(int(a), int(b)) for a, b in edges}
    follow = {a: b for a, b in seen if (b, a) not in seen}
    start = min(follow)
    loop = [start]
    while follow[loop[-1]] != start:
        loop.append(follow[loop[-1]])
    return np.array(loop)


def forearm_faces(loop: Int[np.ndarray, "L"], num_hand: int) -> Int[np.ndarray, "2*R*L 3"]:
    """Faces between the wrist's edge and the rings of `with_forearm`."""
    count = len(loop)
    rings = [loop, *(num_hand + count * k + np.arange(count) for k in range(_FOREARM_RINGS))]
    faces = []
    for inner, outer in pairwise(rings):
        inner_next, outer_next = np.roll(inner, -1), np.roll(outer, -1)
        faces.append(np.stack([inner_next, inner, outer], axis=1))
        faces.append(np.stack([inner_next, outer, outer_next], axis=1))
    return np.concatenate(faces)


_PLACES: dict[str, tuple[int, int, float]] = {
    "torso": (TORSO, _TORSO_T, 0.0),
    "head": (HEAD, _TORSO_T, 1.0),
    "upper_arm": (ARM, _ARM_T, 0.0),
    "forearm": (ARM, _ARM_T, 1.0),
    "hand": (ARM, _ARM_T, 2.0),
    "thigh": (LEG, _LEG_T, 0.0),
    "shin": (LEG, _LEG_T, 1.0),
    "foot": (LEG, _LEG_T, 2.0),
}


def _segments(
    joints: Mapping[str, Float[np.ndarray, "3"]],
) -> list[tuple[str, np.ndarray, np.ndarray, float]]:
    """Name, start, end and half thickness of every limb segment."""
    hips = 0.5 * (joints["L_Hip"] + joints["R_Hip"])
    found = [
        ("torso", hips, joints["Neck"]),
        (
            "head",
            joints["Neck"] + 0.35 * (joints["Top_of_Head"] - joints["Neck"]),
            joints["Top_of_Head"],
        ),
    ]
    for side in ("L", "R"):
        shoulder, elbow, wrist, hip, knee, ankle = (
            joints[f"{side}_{name}"]
            for name in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
        )
        down = np.array([0.0, -0.07, 0.16])
        found += [
            ("upper_arm", shoulder + 0.15 * (elbow - shoulder), elbow),
            ("forearm", elbow, wrist),
            ("hand", wrist, wrist + 0.75 * (wrist - elbow)),
            ("thigh", hip + 0.15 * (knee - hip), knee),
            ("shin", knee, ankle),
            ("foot", ankle, ankle + down),
        ]
    return [(name, start, end, _THICKNESS[name]) for name, start, end in found]


def _project(
    points: Float[np.ndarray, "V 3"],
    starts: Float[np.ndarray, "S 3"],
    ends: Float[np.ndarray, "S 3"],
) -> tuple[Float[np.ndarray, "V S"], Float[np.ndarray, "V S"]]:
    """Distance of every point to every segment and where along it the nearest point lies."""
    offset, axis = points[:, None] - starts, ends - starts
    along = (offset * axis).sum(-1) / (axis * axis).sum(-1)
    foot = np.clip(along, 0, 1)[..., None] * axis
    return np.linalg.norm(offset - foot, axis=-1), along


def _paint_head(
    color: Float32[np.ndarray, "N 3"],
    surface: Surface,
    look: Look,
    is_head: np.ndarray,
    position: Float32[np.ndarray, "N 3"],
) -> None:
    """Hair on top and behind, eyes; in place."""
    rows = np.flatnonzero(is_head)
    local = position[rows] - surface.face_center
    brow = surface.eyes[:, 1].mean() - surface.face_center[1]
    edge = brow + 0.035 + 0.05 * look.hairline
    behind = local[:, 2] < -0.01 - 0.05 * look.hairline
    hair = (local[:, 1] > edge) | (behind & (local[:, 1] > brow - 0.09))
    if look.hairline < 1:
        color[rows[hair]] = look.hair
    for eye in surface.eyes:
        offset = position[rows] - eye
        reach = np.hypot(offset[:, 0] / 1.5, offset[:, 1])
        front = local[:, 2] > 0
        color[rows[front & (reach < 0.009)]] = (0.93, 0.92, 0.90)
        color[rows[front & (np.hypot(offset[:, 0], offset[:, 1]) < 0.006)]] = (0.10, 0.08, 0.07)
        lid = front & (np.abs(offset[:, 1] - 0.024) < 0.004) & (np.abs(offset[:, 0]) < 0.018)
        color[rows[lid]] = 0.6 * look.hair


def _cloth(pattern: Pattern, fields: Float32[np.ndarray, "N 6"]) -> Float32[np.ndarray, "N 3"]:
    """Colour of cloth; patterns run in the rest pose, so they move with the body."""
    x, y, z = fields[:, _POSITION].T * (2 * np.pi / pattern.period)
    # Along a sleeve the rest height falls at an angle; the sum makes bands that go round the arm.
    waves = {
        "plain": lambda: np.full(len(x), -1.0),
        "rows": lambda: np.sin(y),
        "columns": lambda: np.sin(x),
        "checks": lambda: np.sin(x) * np.sin(y),
        "speckle": lambda: np.sin(2.3 * x + 1.7 * y) * np.sin(2.9 * y - 1.3 * z) - 0.35,
    }
    chosen = (waves[pattern.kind]() > 0)[:, None]
    return np.where(chosen, pattern.second, pattern.first).astype(np.float32)
