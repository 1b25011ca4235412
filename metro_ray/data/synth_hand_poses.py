"""Random hands: grips, fists, pointing, pinching, open and spread hands of the open hand model.

Every finger has one number for how far it is curled (0 straight, 1 in the fist) which bends its
three joints together, as tendons do, plus its own noise and a sideways spread. The rotation axes
come from the rest pose's 21 joints, so no rig's local frames enter.

Frame: the rest frame of the hand's mesh, y up; right hand.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from metro_ray.bodies.anny_build import HAND_BONES

FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")
"""Order of the fingers among the joints; anny counts its finger bones so, from 1."""

# Full curl in degrees of the three joints of a finger, root to tip; the thumb's joints bend less.
_FINGER_CURL = (80.0, 95.0, 65.0)
_THUMB_CURL = (20.0, 35.0, 60.0)

Rng = np.random.Generator
Vector = Float[np.ndarray, "3"]


class HandRest(NamedTuple):
    """The rest pose's geometry.

    Attributes:
        fingers: unit vector from the wrist along the hand (to the middle finger's base).
        palm: unit vector out of the palm.
        curl_axis: per finger, the axis that bends it into the palm (right-hand rule).
        rest_curl: per finger, how far the rest pose is bent already, degrees per joint.
    """

    fingers: Vector
    palm: Vector
    curl_axis: dict[str, Vector]
    rest_curl: dict[str, Float[np.ndarray, "2"]]

    @classmethod
    def from_joints(cls, joints: Float[np.ndarray, "21 3"]) -> "HandRest":
        """Read it off the 21 joints: wrist, then thumb to little finger from base to tip."""
        wrist, chains = joints[0], joints[1:].reshape(5, 4, 3)
        index, middle, pinky = (chains[k][0] - wrist for k in (1, 2, 4))
        palm = _unit(np.cross(index, pinky))
        axes, bends = {}, {}
        for name, chain in zip(FINGERS, chains):
            bones = np.diff(chain, axis=0)
            towards = palm if name != "Thumb" else _unit(palm + 1.2 * _unit(pinky - index))
            axes[name] = _unit(np.cross(chain[3] - chain[0], towards))
            bends[name] = np.array([_angle(bones[0], bones[1]), _angle(bones[1], bones[2])])
        return cls(_unit(middle), palm, axes, bends)


def sample_hand_pose(rng: Rng, rest: HandRest) -> Float[np.ndarray, "16 3"]:
    """Draw a pose: axis-angle in radians per bone of `HAND_BONES`, the wrist's row zero."""
    curls, spread = _sample_grip(rng)
    pose = {"wrist.R": np.zeros(3)}  # the view turns the wrist
    for position, finger in enumerate(FINGERS):
        thumb = finger == "Thumb"
        full = np.array(_THUMB_CURL if thumb else _FINGER_CURL)
        bend = np.clip(curls[position] + rng.normal(0, 0.05, 3), -0.1, 1.05) * full
        bend[1:] -= 0.8 * rest.rest_curl[finger]  # the rest pose is bent a little already
        rotations = np.deg2rad(bend)[:, None] * rest.curl_axis[finger]
        sideways = (2 - position) * spread + rng.normal(0, 2.0)
        if thumb:
            sideways = spread + rng.normal(0, 4.0)
        # Spreading is a turn about the palm's normal, before the bend, and fades in a fist.
        fade = np.deg2rad(sideways) * (1 - 0.8 * max(curls[position], 0))
        turn = Rotation.from_rotvec(-rest.palm * fade)
        rotations[0] = (turn * Rotation.from_rotvec(rotations[0])).as_rotvec()
        pose |= {f"finger{position + 1}-{k + 1}.R": rotations[k] for k in range(3)}
    return np.stack([pose[bone] for bone in HAND_BONES])


def _sample_grip(rng: Rng) -> tuple[Float[np.ndarray, "5"], float]:
    """Curl of each finger, thumb first, and degrees of spread between neighbours."""
    kind = rng.choice(
        ("relaxed", "open", "fist", "point", "pinch", "grasp", "count", "free"),
        p=(0.22, 0.16, 0.10, 0.10, 0.10, 0.14, 0.08, 0.10),
    )
    if kind == "relaxed":
        base = rng.uniform(0.08, 0.4)
        return base + np.array([0.1, -0.08, 0.0, 0.06, 0.12]) + rng.normal(0, 0.04, 5), 3.0
    if kind == "open":
        return rng.uniform(-0.06, 0.12, 5), float(rng.uniform(2, 14))
    if kind == "fist":
        return np.clip(rng.uniform(0.8, 0.95) + rng.normal(0, 0.06, 5), 0, 1), 0.0
    if kind == "point":
        curls = np.array([0.6, 0.0, 0.75, 0.8, 0.8]) + rng.normal(0, 0.08, 5)
        curls[0] *= rng.random()
        return curls, 2.0
    if kind == "pinch":
        bend, others = rng.uniform(0.42, 0.6), rng.uniform(0.0, 0.7)
        return np.array([0.75, bend, others, others, others]) + rng.normal(0, 0.05, 5), 4.0
    if kind == "grasp":
        return rng.uniform(0.35, 0.65) + rng.normal(0, 0.06, 5), float(rng.uniform(0, 8))
    if kind == "count":
        curls = np.where(rng.random(5) < 0.5, 0.02, 0.85)
        return curls + rng.normal(0, 0.05, 5), float(rng.uniform(2, 10))
    return rng.uniform(0.0, 0.9, 5), float(rng.uniform(-1, 12))


def _angle(a: Vector, b: Vector) -> float:
    return float(np.rad2deg(np.arccos(np.clip(_unit(a) @ _unit(b), -1, 1))))


def _unit(vector: Vector) -> Vector:
    return vector / np.linalg.norm(vector)
