"""What is drawn at random for one synthetic image, as plain data: `sample_scene` -> `Scene`.

Nothing here draws pictures. One generator per image, seeded with (seed, image index), gives every
number, so an image depends on nothing but the seed and its index.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from metro_ray.data.synth_hand_poses import HandRest, sample_hand_pose
from metro_ray.data.synth_limbs import BodyRest
from metro_ray.data.synth_poses import sample_body_pose
from metro_ray.geometry.raycast import Lights

View = Literal["wide", "full", "front"]
VIEWS: tuple[View, ...] = ("wide", "full", "front")
"""Spread of viewing directions: turned by N(0, 60) degrees, all around, or N(0, 20) degrees."""

Setting = Literal["varied", "studio"]
SETTINGS: tuple[Setting, ...] = ("varied", "studio")
"""What is around the subject: rooms, noise and clutter, with things in front of it; or the even,
bright wall of a photo studio and nothing else."""

LABEL_DIGITS = 6
"""Decimals of the numbers in a label: micrometres, microradians."""

Rng = np.random.Generator
Color = Float[np.ndarray, "3"]


class Camera(NamedTuple):
    """How the subject is put into the picture.

    Attributes:
        distance: camera to subject in multiples of the subject's size; infinite: weak perspective.
        fill: longer side of the subject's 2D box, share of the image side.
        center: where the box's centre goes, shares of the image side.
    """

    distance: float
    fill: float
    center: tuple[float, float]


class Pattern(NamedTuple):
    """Cloth: a second colour in stripes, checks or speckles."""

    kind: Literal["plain", "rows", "columns", "checks", "speckle"]
    first: Color
    second: Color
    period: float  # metres on the body


class Look(NamedTuple):
    """Colours (sRGB in [0, 1]) and cuts of the clothes.

    Attributes:
        sleeve: where sleeves end along the arm: 0 shoulder, 1 elbow, 2 wrist.
        leg: where trousers end along the leg: 0 hip, 1 knee, 2 ankle.
        hem: where the upper garment ends; 0 hips to 1 neck, negative: along the thigh (a dress).
        neckline: where it begins, same scale.
        hairline: height of the hair's edge on the forehead, 0 low to 1 bald.
    """

    skin: Color
    hair: Color
    shoes: Color
    top: Pattern
    bottom: Pattern
    sleeve: float
    leg: float
    hem: float
    neckline: float
    hairline: float
    gloves: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One synthetic image before it is drawn."""

    pose: Float[np.ndarray, "P"]
    """Axis-angle in radians, the first three numbers the orientation in the camera's frame."""
    betas: Float[np.ndarray, "S"]
    camera: Camera
    lights: Lights
    look: Look
    paint_seed: int
    """Seed of background, occluders and sensor noise."""

    def rounded(self) -> "Scene":
        """The same with pose and shape as a label writes them, so that picture and label agree."""
        pose, betas = np.round(self.pose, LABEL_DIGITS), np.round(self.betas, LABEL_DIGITS)
        return replace(self, pose=pose, betas=betas)


def sample_scene(rng: Rng, rest: BodyRest | HandRest, *, view: View, num_betas: int) -> Scene:
    """Draw one scene.

    Args:
        rng: the image's own generator.
        rest: rest pose of the subject; its type says whether it is a body or a hand.
        view: spread of viewing directions, see `VIEWS`.
        num_betas: length of the body model's shape vector (phenotypes, see `_sample_betas`).
    """
    if isinstance(rest, HandRest):
        pose = sample_hand_pose(rng, rest)
        pose[0] = _hand_orientation(rng, rest, view)
    else:
        pose = sample_body_pose(rng, rest)
        pose[0] = _body_orientation(rng, view)
    return Scene(
        pose=pose.ravel(),
        betas=_sample_betas(rng, num_betas),
        camera=_sample_camera(rng, isinstance(rest, HandRest)),
        lights=_sample_lights(rng),
        look=_sample_look(rng),
        paint_seed=int(rng.integers(2**63)),
    )


def _body_orientation(rng: Rng, view: View) -> Float[np.ndarray, "3"]:
    """Upright with some tilt; pi about x turns the y-up rest frame to the y-down camera."""
    yaw = _yaw(rng, view)
    pitch, roll = rng.normal(0, 7), rng.normal(0, 4)
    camera = Rotation.from_euler("xz", [pitch, roll], degrees=True)
    upright = Rotation.from_rotvec([np.pi, 0, 0]) * Rotation.from_euler("y", yaw, degrees=True)
    return (camera * upright).as_rotvec()


def _hand_orientation(rng: Rng, rest: HandRest, view: View) -> Float[np.ndarray, "3"]:
    """Fingers up, palm or back to the camera, then turned about all axes."""
    side = np.cross(rest.fingers, rest.palm)
    side /= np.linalg.norm(side)
    towards = np.cross(side, rest.fingers)  # out of the palm, square to the fingers
    # Columns of the camera frame that fingers (up), palm (to the viewer) and side become.
    rest_axes = np.stack([rest.fingers, towards, side], axis=1)
    seen_axes = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    facing = Rotation.from_matrix(seen_axes @ rest_axes.T)
    half_turn = 180.0 if view != "front" and rng.random() < 0.5 else 0.0
    spin = half_turn + 0.6 * _yaw(rng, view)
    tilt, roll = rng.normal(0, 22), rng.normal(0, 30)
    turn = Rotation.from_euler("yxz", [spin, tilt, roll], degrees=True)
    return (turn * facing).as_rotvec()


def _yaw(rng: Rng, view: View) -> float:
    """Degrees."""
    if view == "full":
        return float(rng.uniform(-180, 180))
    return float(rng.normal(0, 60 if view == "wide" else 20))


def _sample_betas(rng: Rng, num_betas: int) -> Float[np.ndarray, "S"]:
    """Anny's phenotypes: gender, age, muscle, weight, height, proportions, each in [0, 1].

    Mostly adults (age 2/3 is young, 1 old), one in ten a child from about six years up: a single
    picture does not tell a child from a distant adult, so more would only blur the demo's task.
    """
    age = rng.uniform(0.45, 0.6) if rng.random() < 0.1 else rng.uniform(0.62, 0.95)
    values = np.array(
        [
            np.clip(rng.choice([0.1, 0.9]) + rng.normal(0, 0.12), 0, 1),
            age,
            np.clip(rng.normal(0.5, 0.2), 0, 1),
            np.clip(rng.normal(0.5, 0.2), 0, 1),
            np.clip(rng.normal(0.5, 0.15), 0.1, 0.9),
            np.clip(rng.normal(0.5, 0.2), 0, 1),
        ]
    )
    if num_betas != len(values):
        raise ValueError(f"expected {len(values)} phenotypes in the body model, got {num_betas}")
    return values


def mean_betas() -> Float[np.ndarray, "6"]:
    """The middle of `_sample_betas`' adults."""
    return np.array([0.5, 0.75, 0.5, 0.5, 0.5, 0.5])


def _sample_camera(rng: Rng, is_hand: bool) -> Camera:
    weak = rng.random() < 0.3
    distance = np.inf if weak else float(rng.uniform(2.2, 7.0) * (1.4 if is_hand else 1.0))
    fill = float(rng.uniform(0.52, 0.80))
    # The label's box (1.2 times the mesh's) mostly stays inside; one image in twelve is cut off.
    room = 0.85 * (1 - fill) if rng.random() > 1 / 12 else 1.5 * (1 - fill)
    x, y = 0.5 + rng.uniform(-0.5, 0.5, 2) * room
    return Camera(distance, fill, (float(x), float(y)))


def _sample_lights(rng: Rng) -> Lights:
    """A key light from the front upper half, a weaker fill from anywhere, ambient light."""
    key = np.array([rng.normal(0, 0.7), -abs(rng.normal(0.5, 0.35)), -rng.uniform(0.35, 1.2)])
    fill = rng.normal(0, 1, 3)
    fill[2] = -abs(fill[2])
    directions = np.stack([key, fill])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    warmth = rng.normal(0, 0.06)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    ambient = rng.uniform(0.12, 0.5)
    strength = rng.uniform(0.75, 1.25) - 0.6 * ambient
    colors = np.stack([tint * strength, (2 - tint) * rng.uniform(0.0, 0.35)])
    sky = 1 + rng.normal(0, 0.05, 3)
    return Lights(directions, colors, ambient * sky)


# sRGB skin tones from light to dark; a draw blends two neighbours.
_SKIN = np.array(
    [
        [0.97, 0.85, 0.78], [0.94, 0.78, 0.67], [0.87, 0.68, 0.54], [0.78, 0.57, 0.42],
        [0.65, 0.45, 0.32], [0.50, 0.33, 0.23], [0.36, 0.23, 0.17],
    ]
)  # fmt: skip
_HAIR = np.array(
    [
        [0.06, 0.05, 0.05], [0.16, 0.10, 0.07], [0.29, 0.18, 0.10], [0.45, 0.29, 0.14],
        [0.72, 0.56, 0.31], [0.55, 0.23, 0.11], [0.62, 0.60, 0.58],
    ]
)  # fmt: skip


def _sample_look(rng: Rng) -> Look:
    place = rng.uniform(0, len(_SKIN) - 1)
    low = int(place)
    skin = _SKIN[low] + (place - low) * (_SKIN[min(low + 1, len(_SKIN) - 1)] - _SKIN[low])
    dress = rng.random() < 0.12
    sleeve = rng.choice([-0.05, 0.55, 1.9], p=[0.15, 0.45, 0.40]) + rng.normal(0, 0.05)
    leg = rng.choice([0.35, 0.85, 1.9], p=[0.15, 0.25, 0.60]) + rng.normal(0, 0.06)
    top = _sample_pattern(rng, None)
    bottom = top if rng.random() < 0.06 else _sample_pattern(rng, 0.25)
    return Look(
        skin=np.clip(skin + rng.normal(0, 0.02, 3), 0, 1),
        hair=np.clip(_HAIR[rng.integers(len(_HAIR))] + rng.normal(0, 0.02, 3), 0, 1),
        shoes=random_color(rng, 0.4),
        top=top,
        bottom=bottom,
        sleeve=float(sleeve),
        leg=float(leg),
        hem=float(-rng.uniform(0.4, 0.9) if dress else rng.uniform(-0.05, 0.2)),
        neckline=float(rng.uniform(0.84, 0.98)),
        hairline=float(rng.uniform(0.0, 0.6) if rng.random() < 0.9 else 1.0),
        gloves=bool(rng.random() < 0.05),
    )


def _sample_pattern(rng: Rng, saturation: float | None) -> Pattern:
    kind = rng.choice(
        ("plain", "rows", "columns", "checks", "speckle"), p=(0.56, 0.17, 0.07, 0.08, 0.12)
    )
    period = float(rng.uniform(0.05, 0.16))
    return Pattern(kind, random_color(rng, saturation), random_color(rng, None), period)


def random_color(rng: Rng, saturation: float | None = None) -> Color:
    """A colour of random hue and lightness, sRGB in [0, 1]; `saturation` caps how vivid it is."""
    most = 0.85 if saturation is None else saturation
    hue, vivid, value = rng.random(), rng.uniform(0, most), rng.uniform(0.12, 0.95)
    ramp = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return value * (1 - vivid * (1 - ramp))
