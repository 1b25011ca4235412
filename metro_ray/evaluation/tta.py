"""Test-time augmentation as METRO does it: views of the same images fused by Procrustes.

METRO's `run_hand_inference.py --multiscale_inference` predicts under 5 scales x 19 rotations,
writes 95 files, aligns each to the plain prediction and averages. `ViewFusion` takes the views one
by one as they are computed and keeps a sum, so its memory does not depend on how many there are.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from metro_ray.geometry.procrustes import fit_similarity


class View(NamedTuple):
    """How a crop is changed before it is looked at."""

    scale: float
    """Factor on the size of the box, as `AugmentParams.scale_factor`."""
    rotation_deg: float


PLAIN_VIEW = View(1.0, 0)
"""The reference: without augmentation it is the only view."""


def metro_views() -> tuple[View, ...]:
    """METRO's 95 views in its order, `PLAIN_VIEW` among them: scale outermost, 0, 10, -10, ..."""
    rotations = [0, *(sign * 10 * step for step in range(1, 10) for sign in (1, -1))]
    return tuple(View(scale, turn) for scale in (0.7, 0.8, 0.9, 1.0, 1.1) for turn in rotations)


def view_file_name(view: View, epoch: int = 200) -> str:
    """METRO's name for the predictions under one view: `ckpt200-sc10_rot0-pred.zip`.

    Args:
        view: the scale is shown with one decimal, further ones are cut off, as in METRO.
        epoch: the checkpoint's number.
    """
    return f"ckpt{epoch}-sc{int(view.scale * 10):02d}_rot{int(view.rotation_deg)}-pred.zip"


def fused_file_name(epoch: int = 200) -> str:
    """METRO's name for fused predictions: `ckpt200-multisc-pred.zip`."""
    return f"ckpt{epoch}-multisc-pred.zip"


class FusedMesh(NamedTuple):
    """Joints and vertices in the reference's place and size, metres, float64."""

    joints: Float[Tensor, "B J 3"]
    vertices: Float[Tensor, "B V 3"]


class ViewFusion:
    """Mean of a reference prediction and any number of views aligned to it.

    METRO's weights: the reference is the start of the sum and, being one of the 95 views as well,
    counts twice in (reference + sum of the aligned views) / 96. Joints and vertices are aligned
    separately, sample by sample, by METRO's Procrustes; a view's own rotation and scale need not be
    undone, alignment does that. No view is weighted or left out.
    """

    def __init__(self, joints: Float[Tensor, "B J 3"], vertices: Float[Tensor, "B V 3"]) -> None:
        """Start from the reference, usually the prediction under `PLAIN_VIEW`.

        Args:
            joints: metres, any float type; sums are float64.
            vertices: metres, of the same samples.
        """
        self.num_views = 0
        self._reference = FusedMesh(joints.double(), vertices.double())
        self._sum = FusedMesh(self._reference.joints.clone(), self._reference.vertices.clone())

    def add(self, joints: Float[Tensor, "B J 3"], vertices: Float[Tensor, "B V 3"]) -> None:
        """Align the prediction under one more view and add it.

        Raises:
            ValueError: the shapes are not those of the reference.
        """
        aligned = [
            fit_similarity(points, reference).apply(points)
            for points, reference in zip((joints, vertices), self._reference, strict=True)
        ]
        for total, points in zip(self._sum, aligned, strict=True):
            total += points
        self.num_views += 1

    def result(self) -> FusedMesh:
        """The fused prediction of the views so far; a view whose points all coincide makes NaN."""
        return FusedMesh(*(total / (1 + self.num_views) for total in self._sum))
