"""Random people: plausible body poses for the open body model, joint by joint with limits.

A pose is built from what one would say about it (thigh lifted 30 degrees, elbow bent 90 degrees),
so every draw stays within what people do: standing, walking, sitting, squatting, lunging, each
with arms that hang, bend, reach, point aside, rise or rest on the hips.

Frame of all vectors here: the body's rest frame, x to the person's left, y up, z to the front.
Left-hand joints are computed and right-hand ones mirrored, (x, y, z) -> (x, -y, -z) for rotations.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from metro_ray.bodies.anny_build import BODY_BONES
from metro_ray.data.synth_limbs import (
    Arm,
    BodyRest,
    Leg,
    Rng,
    Vector,
    arm_pose,
    degrees,
    leg_pose,
    normal,
)

_MIRROR = np.array([1.0, -1.0, -1.0])


class _Torso(NamedTuple):
    """Degrees over the whole spine: bent forward, bent to the left, turned to the left."""

    forward: float
    side: float
    turn: float


def sample_body_pose(rng: Rng, rest: BodyRest) -> Float[np.ndarray, "20 3"]:
    """Draw a pose: axis-angle in radians per bone of `BODY_BONES`, the root's row zero."""
    legs, torso, swing = _sample_stance(rng)
    arms = _sample_arms(rng, swing)
    pose: dict[str, Vector] = {name: np.zeros(3) for name in BODY_BONES}
    spine = degrees(torso.forward, torso.turn, -torso.side) / 3.0
    for name in ("spine04", "spine02", "spine01"):
        pose[name] = spine
    neck = degrees(
        normal(rng, 0, 10, 30) - 0.4 * torso.forward,
        normal(rng, 0, 22, 60),
        normal(rng, 0, 7, 20),
    )
    pose["neck01"], pose["head"] = 0.5 * neck, 0.5 * neck
    for side, mirror, leg, arm in (("L", 1.0, legs[0], arms[0]), ("R", _MIRROR, legs[1], arms[1])):
        for name, rotation in leg_pose(rng, leg, rest).items():
            pose[f"{name}.{side}"] = rotation * mirror
        for name, rotation in arm_pose(rng, arm, rest).items():
            pose[f"{name}.{side}"] = rotation * mirror
    return np.stack([pose[name] for name in BODY_BONES])


def _sample_stance(rng: Rng) -> tuple[tuple[Leg, Leg], _Torso, float]:
    """Legs (left, right), torso, and how far the left leg is ahead (for the arms' swing)."""
    names, weights = zip(*((stance, weight) for stance, weight in _STANCES.items()))
    share = np.array(weights) / sum(weights)
    stance = names[int(rng.choice(len(names), p=share))]
    left, right, torso = stance(rng)
    if rng.random() < 0.5:
        left, right = right, left
    torso = _Torso(
        torso.forward + normal(rng, 2, 6, 18),
        torso.side + normal(rng, 0, 6, 18),
        torso.turn + normal(rng, 0, 10, 30),
    )
    return (left, right), torso, left.flexion - right.flexion


def _stand(rng: Rng) -> tuple[Leg, Leg, _Torso]:
    def leg() -> Leg:
        bend = abs(normal(rng, 0, 6, 20))
        return Leg(bend, normal(rng, 0, 4, 10), normal(rng, 8, 7, 25), 1.6 * bend)

    return leg(), leg(), _Torso(0, 0, 0)


def _wide_stand(rng: Rng) -> tuple[Leg, Leg, _Torso]:
    spread = rng.uniform(10, 26)
    left, right, torso = _stand(rng)
    return left._replace(abduction=spread), right._replace(abduction=spread), torso


def _walk(rng: Rng) -> tuple[Leg, Leg, _Torso]:
    stride = rng.uniform(12, 38)
    front = Leg(stride, normal(rng, 0, 3, 8), normal(rng, 4, 4, 12), rng.uniform(2, 40))
    back = Leg(-0.6 * stride, normal(rng, 0, 3, 8), normal(rng, 4, 4, 12), rng.uniform(4, 50))
    return front, back, _Torso(rng.uniform(0, 10), 0, normal(rng, 6, 5, 15))


def _sit(rng: Rng) -> tuple[Leg, Leg, _Torso]:
    depth = rng.uniform(70, 95)

    def leg() -> Leg:
        knee = depth + normal(rng, -5, 14, 35)
        return Leg(depth + normal(rng, 0, 4, 10), rng.uniform(-2, 16), rng.uniform(0, 16), knee)

    return leg(), leg(), _Torso(rng.uniform(-8, 22), 0, 0)


def _squat(rng: Rng) -> tuple[Leg, Leg, _Torso]:
    depth = rng.uniform(35, 100)
    leg = Leg(depth, rng.uniform(4, 22), rng.uniform(5, 25), 1.15 * depth)
    other = leg._replace(abduction=leg.abduction + normal(rng, 0, 4, 8))
    return leg, other, _Torso(rng.uniform(0.1, 0.45) * depth, 0, 0)


def _lunge(rng: Rng) -> tuple[Leg, Leg, _Torso]:
    depth = rng.uniform(40, 85)
    front = Leg(depth, rng.uniform(-2, 8), rng.uniform(0, 10), depth + normal(rng, 5, 8, 20))
    back = Leg(-rng.uniform(5, 28), rng.uniform(0, 8), rng.uniform(0, 15), rng.uniform(5, 60))
    return front, back, _Torso(rng.uniform(-5, 20), 0, 0)


def _lift_leg(rng: Rng) -> tuple[Leg, Leg, _Torso]:
    lifted = Leg(rng.uniform(-25, 95), rng.uniform(0, 35), rng.uniform(0, 25), rng.uniform(5, 110))
    standing = Leg(rng.uniform(0, 10), rng.uniform(-4, 4), rng.uniform(0, 15), rng.uniform(0, 15))
    return lifted, standing, _Torso(0.1 * lifted.flexion, normal(rng, 0, 6, 15), 0)


_STANCES: dict[Callable[[Rng], tuple[Leg, Leg, _Torso]], float] = {
    _stand: 0.34,
    _wide_stand: 0.12,
    _walk: 0.22,
    _sit: 0.11,
    _squat: 0.06,
    _lunge: 0.07,
    _lift_leg: 0.08,
}


def _sample_arms(rng: Rng, swing: float) -> tuple[Arm, Arm]:
    """Arms (left, right); hanging arms swing against the legs."""
    names = tuple(_ARMS)
    share = np.array(list(_ARMS.values())) / sum(_ARMS.values())
    first, second = (names[k] for k in rng.choice(len(names), size=2, p=share))
    left = first(rng)
    if rng.random() < 0.45:  # people often do the same with both arms
        jitter = rng.normal(0, (5, 8, 10, 6))
        right = Arm(*(value + noise for value, noise in zip(left, jitter)))
    else:
        right = second(rng)
    return _swing(left, first, -swing), _swing(right, second, swing)


def _swing(arm: Arm, kind: Callable[[Rng], Arm], ahead: float) -> Arm:
    if kind is not _hang or abs(ahead) < 10:
        return arm
    return arm._replace(
        elevation=min(0.55 * abs(ahead), 40) + 4, azimuth=80.0 if ahead > 0 else -75.0
    )


def _hang(rng: Rng) -> Arm:
    return Arm(
        abs(normal(rng, 12, 6, 26)), rng.uniform(-20, 60), rng.uniform(5, 40), rng.uniform(0, 35)
    )


def _bend(rng: Rng) -> Arm:
    return Arm(rng.uniform(10, 35), rng.uniform(0, 70), rng.uniform(50, 125), rng.uniform(0, 45))


def _aside(rng: Rng) -> Arm:
    return Arm(rng.uniform(55, 105), rng.uniform(-15, 30), rng.uniform(3, 70), rng.uniform(-40, 30))


def _reach(rng: Rng) -> Arm:
    return Arm(rng.uniform(45, 115), rng.uniform(55, 105), rng.uniform(3, 60), rng.uniform(-15, 40))


def _raise(rng: Rng) -> Arm:
    return Arm(rng.uniform(110, 168), rng.uniform(0, 70), rng.uniform(3, 80), rng.uniform(-40, 25))


def _on_hip(rng: Rng) -> Arm:
    return Arm(
        normal(rng, 42, 5, 10), normal(rng, -15, 8, 16), normal(rng, 98, 8, 16),
        normal(rng, 68, 8, 16),
    )  # fmt: skip


_ARMS: dict[Callable[[Rng], Arm], float] = {
    _hang: 0.34,
    _bend: 0.20,
    _aside: 0.12,
    _reach: 0.13,
    _raise: 0.14,
    _on_hip: 0.07,
}
