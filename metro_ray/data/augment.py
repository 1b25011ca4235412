"""AugmentParams: one draw of METRO's training augmentation, and what it does to labels.

METRO's distributions (data goldens G8b), each independent:
flip with probability 1/2 (bodies only); each colour channel times U[0.6, 1.4); rotation N(0, 30
deg) (hands 90) clipped at twice that, then 0 with probability 0.6; scale factor 1 + N(0, 0.25)
clipped to [0.75, 1.25]; k = int(u x 0.3 x n) of the n joint tokens and, with its own u, of the n
vertex tokens masked (hands: none).

METRO draws from one global generator that all ranks seed alike, so its ranks and loader workers
repeat each other's draws. Here the generator belongs to the row: see `SampleTransform`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metro_ray.bodies.spec import MeshSpec


class AugmentSettings(NamedTuple):
    """Widths of the distributions; the defaults are METRO's for bodies."""

    flip_probability: float = 0.5
    """Chance of mirroring; a spec without left and right joints (hands) is never mirrored."""
    pixel_gain: float = 0.4
    """Colour factors come from [1 - this, 1 + this)."""
    rotation_deg: float = 30.0
    """Standard deviation before clipping at twice this, degrees."""
    rotation_probability: float = 0.4
    scale: float = 0.25
    """Standard deviation of the scale factor before clipping at 1 -/+ this."""
    mask_fraction: float = 0.3
    """Upper end of the share of tokens that is masked."""

    @classmethod
    def for_spec(cls, spec: MeshSpec) -> AugmentSettings:
        """METRO's numbers for a body or a hand."""
        rotation = 30.0 if spec.kind == "body" else 90.0
        return cls(rotation_deg=rotation, mask_fraction=spec.mask_fraction)


class AugmentParams(NamedTuple):
    """What happens to one sample."""

    flip: bool
    rotation_deg: float
    """Counter-clockwise on screen."""
    scale_factor: float
    """The box grows by this."""
    pixel_gain: Float[np.ndarray, " 3"]
    """R, G, B."""
    token_mask: Float[np.ndarray, "N 1"]
    """1 keep, 0 mask; joints, then coarse vertices."""

    @classmethod
    def identity(
        cls, spec: MeshSpec, rotation_deg: float = 0.0, scale_factor: float = 1.0
    ) -> AugmentParams:
        """Nothing changes (evaluation), or only what test-time augmentation asks for."""
        mask = np.ones((spec.num_tokens, 1), np.float32)
        return cls(False, rotation_deg, scale_factor, np.ones(3, np.float32), mask)

    @classmethod
    def sample(
        cls,
        rng: np.random.Generator | np.random.RandomState,
        spec: MeshSpec,
        settings: AugmentSettings | None = None,
    ) -> AugmentParams:
        """Draw parameters, in METRO's order: a legacy `RandomState(seed)` repeats METRO's own
        stream.

        Args:
            rng: source of the numbers; advanced.
            spec: decides whether to mirror, and the numbers of tokens.
            settings: widths; METRO's for this spec when left out.
        """
        given = settings or AugmentSettings.for_spec(spec)
        flip, gain, rotation, factor = draw_picture(rng, spec, given)
        numbers = (spec.num_joints, spec.num_coarse)
        masks = [_draw_mask(rng, number, given.mask_fraction) for number in numbers]
        return cls(flip, rotation, factor, gain.astype(np.float32), np.concatenate(masks))


def draw_picture(
    rng: np.random.Generator | np.random.RandomState, spec: MeshSpec, settings: AugmentSettings
) -> tuple[bool, Float[np.ndarray, " 3"], float, float]:
    """The part of `AugmentParams.sample` that changes the picture: flip, gain, rotation, factor."""
    flip = bool(spec.label_flip_pairs) and rng.uniform() <= settings.flip_probability
    gain = rng.uniform(1 - settings.pixel_gain, 1 + settings.pixel_gain, 3)
    widest = 2 * settings.rotation_deg
    rotation = min(widest, max(-widest, rng.standard_normal() * settings.rotation_deg))
    factor = rng.standard_normal() * settings.scale + 1
    factor = min(1 + settings.scale, max(1 - settings.scale, factor))
    if rng.uniform() <= 1.0 - settings.rotation_probability:
        rotation = 0.0
    return bool(flip), gain, float(rotation), float(factor)


def _draw_mask(
    rng: np.random.Generator | np.random.RandomState, num_tokens: int, fraction: float
) -> Float[np.ndarray, "N 1"]:
    mask = np.ones((num_tokens, 1), np.float32)
    count = int(rng.uniform() * fraction * num_tokens)
    mask[rng.choice(num_tokens, size=count, replace=False)] = 0.0
    return mask


def flip_order(num_joints: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Joint order after mirroring: the two of each pair trade places."""
    order = list(range(num_joints))
    for left, right in pairs:
        order[left], order[right] = right, left
    return order


def rotate_joints_3d(
    joints: Float[np.ndarray, "L 4"], rotation_deg: float
) -> Float[np.ndarray, "L 4"]:
    """Turn root-relative joints (metres, and confidence) in the image plane by `-rotation_deg`."""
    if rotation_deg == 0:
        return joints
    result = joints.copy()
    result[:, :3] = joints[:, :3] @ _image_rotation(rotation_deg).T
    return result


def flip_joints(
    joints: Float[np.ndarray, "L C"], pairs: Sequence[tuple[int, int]]
) -> Float[np.ndarray, "L C"]:
    """Mirror left to right: swap pairs, negate x. For 3D joints and normalised 2D joints."""
    result = joints[flip_order(len(joints), pairs)]
    result[:, 0] = -result[:, 0]
    return result


def rotate_pose(pose: Float[np.ndarray, " P"], rotation_deg: float) -> Float[np.ndarray, " P"]:
    """Turn the global orientation with the picture: log(Rz(-rotation) exp(pose[:3])).

    Done for rotation 0 as well, as METRO does: root vectors longer than pi come back shorter, and
    rotations below about 1e-5 rad come back as zero. exp in float32, the rest in float64 (OpenCV's
    Rodrigues).
    """
    result = np.asarray(pose, dtype=np.float32).copy()
    orientation, _ = cv2.Rodrigues(result[:3])
    turned, _ = cv2.Rodrigues(np.dot(_image_rotation(rotation_deg), orientation))
    result[:3] = turned[:, 0]
    return result


def flip_pose(
    pose: Float[np.ndarray, " P"], pairs: Sequence[tuple[int, int]]
) -> Float[np.ndarray, " P"]:
    """Mirror a pose: swap left and right joints, then negate y and z of every axis-angle vector."""
    vectors = pose.reshape(-1, 3)[flip_order(len(pose) // 3, pairs)]
    vectors[:, 1:] = -vectors[:, 1:]
    return vectors.reshape(-1)


def _image_rotation(rotation_deg: float) -> Float[np.ndarray, "3 3"]:
    angle = np.deg2rad(-rotation_deg)
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
