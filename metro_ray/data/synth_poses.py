"""Random people: plausible body poses for the open body model, joint by joint with limits.

A pose is built from what one would say about it (thigh lifted 30 degrees, elbow bent 90 degrees),
so every draw stays within what people do: standing, walking, sitting, squatting, lunging, each
with arms that hang, bend, reach, point aside, rise or rest on the hips.

Frame of all vectors here: the body's rest frame, x to the person's left, y up, z to the front.
Left-hand joints are computed and right-hand ones mirrored, (x, y, z) -> (x, -y, -z) for rotations.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

BODY_POSE_JOINTS = (
    "Pelvis", "L_Hip", "R_Hip", "Spine1", "L_Knee", "R_Knee", "Spine2", "L_Ankle", "R_Ankle",
    "Spine3", "Neck", "L_Collar", "R_Collar", "Head", "L_Shoulder", "R_Shoulder",
    "L_Elbow", "R_Elbow", "L_Wrist", "R_Wrist",
)  # fmt: skip
"""Order of the pose of `anny_body`: SMPL's joints without toes and hands."""

_UP = np.array([0.0, 1.0, 0.0])
_FRONT = np.array([0.0, 0.0, 1.0])
_MIRROR = np.array([1.0, -1.0, -1.0])

Rng = np.random.Generator
Vector = Float[np.ndarray, "3"]


class BodyRest(NamedTuple):
    """Directions of the left limbs in the rest pose, unit vectors."""

    upper_arm: Vector
    forearm: Vector
    thigh: Vector
    shin: Vector

    @classmethod
    def from_joints(cls, joints: Mapping[str, Vector]) -> "BodyRest":
        """Read the directions off the rest pose's joints (names of J14)."""

        def direction(start: str, end: str) -> Vector:
            return _unit(joints[end] - joints[start])

        return cls(
            direction("L_Shoulder", "L_Elbow"),
            direction("L_Elbow", "L_Wrist"),
            direction("L_Hip", "L_Knee"),
            direction("L_Knee", "L_Ankle"),
        )


class _Leg(NamedTuple):
    """Degrees: thigh forward, thigh outward, thigh turned outward, knee bent."""

    flexion: float
    abduction: float
    turn: float
    knee: float


class _Arm(NamedTuple):
    """Degrees: from hanging (0) to overhead (180), from aside (0) to the front (90), elbow bent,
    upper arm turned inward.
    """

    elevation: float
    azimuth: float
    elbow: float
    turn: float


class _Torso(NamedTuple):
    """Degrees over the whole spine: bent forward, bent to the left, turned to the left."""

    forward: float
    side: float
    turn: float


def sample_body_pose(rng: Rng, rest: BodyRest) -> Float[np.ndarray, "20 3"]:
    """Draw a pose: axis-angle in radians per joint of `BODY_POSE_JOINTS`, the pelvis' row zero."""
    legs, torso, swing = _sample_stance(rng)
    arms = _sample_arms(rng, swing)
    pose: dict[str, Vector] = {name: np.zeros(3) for name in BODY_POSE_JOINTS}
    spine = _degrees(torso.forward, torso.turn, -torso.side) / 3.0
    for name in ("Spine1", "Spine2", "Spine3"):
        pose[name] = spine
    neck = _degrees(
        _normal(rng, 0, 10, 30) - 0.4 * torso.forward,
        _normal(rng, 0, 22, 60),
        _normal(rng, 0, 7, 20),
    )
    pose["Neck"], pose["Head"] = 0.5 * neck, 0.5 * neck
    for side, mirror, leg, arm in (("L", 1.0, legs[0], arms[0]), ("R", _MIRROR, legs[1], arms[1])):
        for name, rotation in _leg_pose(rng, leg, rest).items():
            pose[f"{side}_{name}"] = rotation * mirror
        for name, rotation in _arm_pose(rng, arm, rest).items():
            pose[f"{side}_{name}"] = rotation * mirror
    return np.stack([pose[name] for name in BODY_POSE_JOINTS])


def _sample_stance(rng: Rng) -> tuple[tuple[_Leg, _Leg], _Torso, float]:
    """Legs (left, right), torso, and how far the left leg is ahead (for the arms' swing)."""
    names, weights = zip(*((stance, weight) for stance, weight in _STANCES.items()))
    share = np.array(weights) / sum(weights)
    stance = names[int(rng.choice(len(names), p=share))]
    left, right, torso = stance(rng)
    if rng.random() < 0.5:
        left, right = right, left
    torso = _Torso(
        torso.forward + _normal(rng, 2, 6, 18),
        torso.side + _normal(rng, 0, 6, 18),
        torso.turn + _normal(rng, 0, 10, 30),
    )
    return (left, right), torso, left.flexion - right.flexion


def _stand(rng: Rng) -> tuple[_Leg, _Leg, _Torso]:
    def leg() -> _Leg:
        bend = abs(_normal(rng, 0, 6, 20))
        return _Leg(bend, _normal(rng, 0, 4, 10), _normal(rng, 8, 7, 25), 1.6 * bend)

    return leg(), leg(), _Torso(0, 0, 0)


def _wide_stand(rng: Rng) -> tuple[_Leg, _Leg, _Torso]:
    spread = rng.uniform(10, 26)
    left, right, torso = _stand(rng)
    return left._replace(abduction=spread), right._replace(abduction=spread), torso


def _walk(rng: Rng) -> tuple[_Leg, _Leg, _Torso]:
    stride = rng.uniform(12, 38)
    front = _Leg(stride, _normal(rng, 0, 3, 8), _normal(rng, 4, 4, 12), rng.uniform(2, 40))
    back = _Leg(-0.6 * stride, _normal(rng, 0, 3, 8), _normal(rng, 4, 4, 12), rng.uniform(4, 50))
    return front, back, _Torso(rng.uniform(0, 10), 0, _normal(rng, 6, 5, 15))


def _sit(rng: Rng) -> tuple[_Leg, _Leg, _Torso]:
    depth = rng.uniform(70, 95)

    def leg() -> _Leg:
        knee = depth + _normal(rng, -5, 14, 35)
        return _Leg(depth + _normal(rng, 0, 4, 10), rng.uniform(-2, 16), rng.uniform(0, 16), knee)

    return leg(), leg(), _Torso(rng.uniform(-8, 22), 0, 0)


def _squat(rng: Rng) -> tuple[_Leg, _Leg, _Torso]:
    depth = rng.uniform(35, 100)
    leg = _Leg(depth, rng.uniform(4, 22), rng.uniform(5, 25), 1.15 * depth)
    other = leg._replace(abduction=leg.abduction + _normal(rng, 0, 4, 8))
    return leg, other, _Torso(rng.uniform(0.1, 0.45) * depth, 0, 0)


def _lunge(rng: Rng) -> tuple[_Leg, _Leg, _Torso]:
    depth = rng.uniform(40, 85)
    front = _Leg(depth, rng.uniform(-2, 8), rng.uniform(0, 10), depth + _normal(rng, 5, 8, 20))
    back = _Leg(-rng.uniform(5, 28), rng.uniform(0, 8), rng.uniform(0, 15), rng.uniform(5, 60))
    return front, back, _Torso(rng.uniform(-5, 20), 0, 0)


def _lift_leg(rng: Rng) -> tuple[_Leg, _Leg, _Torso]:
    lifted = _Leg(rng.uniform(-25, 95), rng.uniform(0, 35), rng.uniform(0, 25), rng.uniform(5, 110))
    standing = _Leg(rng.uniform(0, 10), rng.uniform(-4, 4), rng.uniform(0, 15), rng.uniform(0, 15))
    return lifted, standing, _Torso(0.1 * lifted.flexion, _normal(rng, 0, 6, 15), 0)


_STANCES: dict[Callable[[Rng], tuple[_Leg, _Leg, _Torso]], float] = {
    _stand: 0.34,
    _wide_stand: 0.12,
    _walk: 0.22,
    _sit: 0.11,
    _squat: 0.06,
    _lunge: 0.07,
    _lift_leg: 0.08,
}


def _sample_arms(rng: Rng, swing: float) -> tuple[_Arm, _Arm]:
    """Arms (left, right); hanging arms swing against the legs."""
    names = tuple(_ARMS)
    share = np.array(list(_ARMS.values())) / sum(_ARMS.values())
    first, second = (names[k] for k in rng.choice(len(names), size=2, p=share))
    left = first(rng)
    if rng.random() < 0.45:  # people often do the same with both arms
        jitter = rng.normal(0, (5, 8, 10, 6))
        right = _Arm(*(value + noise for value, noise in zip(left, jitter)))
    else:
        right = second(rng)
    return _swing(left, first, -swing), _swing(right, second, swing)


def _swing(arm: _Arm, kind: Callable[[Rng], _Arm], ahead: float) -> _Arm:
    if kind is not _hang or abs(ahead) < 10:
        return arm
    return arm._replace(
        elevation=min(0.55 * abs(ahead), 40) + 4, azimuth=80.0 if ahead > 0 else -75.0
    )


def _hang(rng: Rng) -> _Arm:
    return _Arm(
        abs(_normal(rng, 12, 6, 26)), rng.uniform(-20, 60), rng.uniform(5, 40), rng.uniform(0, 35)
    )


def _bend(rng: Rng) -> _Arm:
    return _Arm(rng.uniform(10, 35), rng.uniform(0, 70), rng.uniform(50, 125), rng.uniform(0, 45))


def _aside(rng: Rng) -> _Arm:
    return _Arm(
        rng.uniform(55, 105), rng.uniform(-15, 30), rng.uniform(3, 70), rng.uniform(-40, 30)
    )


def _reach(rng: Rng) -> _Arm:
    return _Arm(
        rng.uniform(45, 115), rng.uniform(55, 105), rng.uniform(3, 60), rng.uniform(-15, 40)
    )


def _raise(rng: Rng) -> _Arm:
    return _Arm(rng.uniform(110, 168), rng.uniform(0, 70), rng.uniform(3, 80), rng.uniform(-40, 25))


def _on_hip(rng: Rng) -> _Arm:
    return _Arm(
        _normal(rng, 42, 5, 10), _normal(rng, -15, 8, 16), _normal(rng, 98, 8, 16),
        _normal(rng, 68, 8, 16),
    )  # fmt: skip


_ARMS: dict[Callable[[Rng], _Arm], float] = {
    _hang: 0.34,
    _bend: 0.20,
    _aside: 0.12,
    _reach: 0.13,
    _raise: 0.14,
    _on_hip: 0.07,
}


def _leg_pose(rng: Rng, leg: _Leg, rest: BodyRest) -> dict[str, Vector]:
    """Rotations of hip, knee and ankle of a left leg."""
    flexion = float(np.clip(leg.flexion, -30, 110))
    knee = float(np.clip(leg.knee, 0, 135))
    hip = (
        Rotation.from_rotvec(_degrees(-flexion, 0, 0))
        * Rotation.from_rotvec(_degrees(0, 0, np.clip(leg.abduction, -6, 45)))
        * Rotation.from_rotvec(_degrees(0, np.clip(leg.turn, -15, 35), 0))
    )
    knee_axis = _unit(np.cross(rest.thigh, -_FRONT))
    ankle = np.clip(0.8 * (flexion - knee), -25, 25) + _normal(rng, 0, 5, 12)
    return {
        "Hip": hip.as_rotvec(),
        "Knee": knee_axis * np.deg2rad(knee),
        "Ankle": _degrees(ankle, _normal(rng, 0, 5, 12), 0),
    }


def _arm_pose(rng: Rng, arm: _Arm, rest: BodyRest) -> dict[str, Vector]:
    """Rotations of collar, shoulder, elbow and wrist of a left arm."""
    elevation, azimuth = np.deg2rad([np.clip(arm.elevation, 0, 170), arm.azimuth])
    target = np.array(
        [
            np.sin(elevation) * np.cos(azimuth),
            -np.cos(elevation),
            np.sin(elevation) * np.sin(azimuth),
        ]
    )
    lift = np.clip(0.25 * (arm.elevation - 60), -3, 25)  # the collar bone rises with the arm
    collar = Rotation.from_rotvec(_degrees(0, 0, lift))
    aim = _turn_onto(rest.upper_arm, collar.inv().apply(target))
    turn = Rotation.from_rotvec(rest.upper_arm * np.deg2rad(np.clip(arm.turn, -60, 80)))
    rest_bend = np.rad2deg(np.arccos(np.clip(rest.upper_arm @ rest.forearm, -1, 1)))
    elbow_axis = _unit(np.cross(rest.upper_arm, rest.forearm if rest_bend > 5 else _FRONT))
    elbow = np.clip(arm.elbow, 2, 140) - rest_bend
    pronation = rest.forearm * np.deg2rad(_normal(rng, 0, 15, 35))
    wrist = _degrees(*rng.normal(0, 10, 3).clip(-25, 25)) + pronation
    return {
        "Collar": collar.as_rotvec(),
        "Shoulder": (aim * turn).as_rotvec(),
        "Elbow": elbow_axis * np.deg2rad(elbow),
        "Wrist": wrist,
    }


def _turn_onto(start: Vector, end: Vector) -> Rotation:
    """The shortest rotation that takes one direction to the other."""
    axis = np.cross(start, end)
    length = float(np.linalg.norm(axis))
    if length < 1e-9:
        return Rotation.identity()
    return Rotation.from_rotvec(axis / length * np.arctan2(length, float(start @ end)))


def _normal(rng: Rng, mean: float, deviation: float, reach: float) -> float:
    """A normal draw cut to `mean` plus or minus `reach`."""
    return float(np.clip(rng.normal(mean, deviation), mean - reach, mean + reach))


def _degrees(x: float, y: float, z: float) -> Vector:
    return np.deg2rad(np.array([x, y, z], dtype=np.float64))


def _unit(vector: Vector) -> Vector:
    return vector / np.linalg.norm(vector)
