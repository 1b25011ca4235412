"""Limbs of the open body model from angles that one would name: `leg_pose`, `arm_pose`.

Frame: the body's rest frame, x to the person's left, y up, z to the front; left limbs.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

_FRONT = np.array([0.0, 0.0, 1.0])

Rng = np.random.Generator
Vector = Float[np.ndarray, "3"]


class BodyRest(NamedTuple):
    """Directions of the left limbs in the rest pose, unit vectors."""

    upper_arm: Vector
    forearm: Vector
    thigh: Vector

    @classmethod
    def from_joints(cls, joints: Mapping[str, Vector]) -> "BodyRest":
        """Read the directions off the rest pose's joints (names of J14)."""

        def direction(start: str, end: str) -> Vector:
            return _unit(joints[end] - joints[start])

        return cls(
            direction("L_Shoulder", "L_Elbow"),
            direction("L_Elbow", "L_Wrist"),
            direction("L_Hip", "L_Knee"),
        )


class Leg(NamedTuple):
    """Degrees: thigh forward, thigh outward, thigh turned outward, knee bent."""

    flexion: float
    abduction: float
    turn: float
    knee: float


class Arm(NamedTuple):
    """Degrees: from hanging (0) to overhead (180), from aside (0) to the front (90), elbow bent,
    upper arm turned inward.
    """

    elevation: float
    azimuth: float
    elbow: float
    turn: float


def leg_pose(rng: Rng, leg: Leg, rest: BodyRest) -> dict[str, Vector]:
    """Rotations of hip, knee and ankle of a left leg: axis-angle in radians by bone."""
    flexion = float(np.clip(leg.flexion, -30, 110))
    knee = float(np.clip(leg.knee, 0, 135))
    hip = (
        Rotation.from_rotvec(degrees(-flexion, 0, 0))
        * Rotation.from_rotvec(degrees(0, 0, np.clip(leg.abduction, -6, 45)))
        * Rotation.from_rotvec(degrees(0, np.clip(leg.turn, -15, 35), 0))
    )
    knee_axis = _unit(np.cross(rest.thigh, -_FRONT))
    ankle = np.clip(0.8 * (flexion - knee), -25, 25) + normal(rng, 0, 5, 12)
    return {
        "upperleg01": hip.as_rotvec(),
        "lowerleg01": knee_axis * np.deg2rad(knee),
        "foot": degrees(ankle, normal(rng, 0, 5, 12), 0),
    }


def arm_pose(rng: Rng, arm: Arm, rest: BodyRest) -> dict[str, Vector]:
    """Rotations of collar, shoulder, elbow and wrist of a left arm, by bone."""
    elevation, azimuth = np.deg2rad([np.clip(arm.elevation, 0, 170), arm.azimuth])
    target = np.array(
        [
            np.sin(elevation) * np.cos(azimuth),
            -np.cos(elevation),
            np.sin(elevation) * np.sin(azimuth),
        ]
    )
    lift = np.clip(0.25 * (arm.elevation - 60), -3, 25)  # the collar bone rises with the arm
    collar = Rotation.from_rotvec(degrees(0, 0, lift))
    aim = _turn_onto(rest.upper_arm, collar.inv().apply(target))
    turn = Rotation.from_rotvec(rest.upper_arm * np.deg2rad(np.clip(arm.turn, -60, 80)))
    rest_bend = np.rad2deg(np.arccos(np.clip(rest.upper_arm @ rest.forearm, -1, 1)))
    elbow_axis = _unit(np.cross(rest.upper_arm, rest.forearm if rest_bend > 5 else _FRONT))
    elbow = np.clip(arm.elbow, 2, 140) - rest_bend
    pronation = rest.forearm * np.deg2rad(normal(rng, 0, 15, 35))
    wrist = degrees(*rng.normal(0, 10, 3).clip(-25, 25)) + pronation
    return {
        "clavicle": collar.as_rotvec(),
        "upperarm01": (aim * turn).as_rotvec(),
        "lowerarm01": elbow_axis * np.deg2rad(elbow),
        "wrist": wrist,
    }


def _turn_onto(start: Vector, end: Vector) -> Rotation:
    """The shortest rotation that takes one direction to the other."""
    axis = np.cross(start, end)
    length = float(np.linalg.norm(axis))
    if length < 1e-9:
        return Rotation.identity()
    return Rotation.from_rotvec(axis / length * np.arctan2(length, float(start @ end)))


def normal(rng: Rng, mean: float, deviation: float, reach: float) -> float:
    """A normal draw cut to `mean` plus or minus `reach`."""
    return float(np.clip(rng.normal(mean, deviation), mean - reach, mean + reach))


def degrees(x: float, y: float, z: float) -> Vector:
    return np.deg2rad(np.array([x, y, z], dtype=np.float64))


def _unit(vector: Vector) -> Vector:
    return vector / np.linalg.norm(vector)
