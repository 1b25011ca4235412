"""Similarity Procrustes: scale, rotation and translation that best map one point set to another."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Similarity(NamedTuple):
    """x -> scale * rotation @ x + translation, in float64."""

    scale: Float[Tensor, "B"]
    rotation: Float[Tensor, "B 3 3"]
    translation: Float[Tensor, "B 3"]

    def apply(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Transformed points, float64."""
        turned = points.double() @ self.rotation.transpose(1, 2)
        return self.scale[:, None, None] * turned + self.translation[:, None, :]


def fit_similarity(source: Float[Tensor, "B N 3"], target: Float[Tensor, "B N 3"]) -> Similarity:
    """Least-squares similarity from source to target, sample by sample, in float64.

    METRO's rule (`metro/utils/metric_pampjpe.py`): reflections are not allowed
    (determinant +1), and the scale is trace(R K) over the sum of squares of the centred source. A
    source whose points all coincide has no scale: NaN, as in METRO.

    Args:
        source: points to move, any unit.
        target: points to reach, the unit of the result.

    Raises:
        ValueError: the shapes differ or are not (B, N, 3).
    """
    if source.shape != target.shape or source.ndim != 3 or source.shape[-1] != 3:
        raise ValueError(
            "Procrustes needs two point sets of one shape (B, N, 3), "
            f"got {tuple(source.shape)} and {tuple(target.shape)}"
        )
    source, target = source.double(), target.double()
    source_mean, target_mean = source.mean(dim=1), target.mean(dim=1)
    centred_source = source - source_mean[:, None]
    centred_target = target - target_mean[:, None]
    covariance = centred_source.transpose(1, 2) @ centred_target
    u, _, vh = torch.linalg.svd(covariance)
    v = vh.transpose(1, 2)
    handedness = torch.ones_like(source_mean)
    handedness[:, 2] = torch.sign(torch.linalg.det(u @ vh))
    rotation = (v * handedness[:, None, :]) @ u.transpose(1, 2)
    fitted = (rotation @ covariance).diagonal(dim1=1, dim2=2).sum(dim=1)
    scale = fitted / centred_source.square().sum(dim=(1, 2))
    moved_mean = (rotation @ source_mean[:, :, None])[:, :, 0]
    return Similarity(scale, rotation, target_mean - scale[:, None] * moved_mean)


def similarity_align(
    source: Float[Tensor, "B N 3"], target: Float[Tensor, "B N 3"]
) -> Float[Tensor, "B N 3"]:
    """Source points after the best similarity transform to the target, in the source's dtype.

    Raises:
        ValueError: the shapes differ or are not (B, N, 3), or the source holds integers.
    """
    if not source.is_floating_point():
        raise ValueError(f"Procrustes needs floating-point points, got {source.dtype}")
    return fit_similarity(source, target).apply(source).to(source.dtype)
