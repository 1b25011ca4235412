"""Test-time augmentation as METRO does it: views of the same images fused by Procrustes.

METRO's `run_hand_inference.py --multiscale_inference` predicts under 5 scales x 19 rotations,
writes 95 files, aligns each to the plain prediction and averages. `ViewFusion` takes the views as
they are computed and keeps a sum, so its memory does not depend on how many there are.
`tta_pass.py` makes the views and predicts them in one pass over the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from metro_ray.config.views import METRO_ROTATIONS_DEG, METRO_SCALES
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
    return tuple(View(*both) for both in product(METRO_SCALES, METRO_ROTATIONS_DEG))


class Shot(NamedTuple):
    """One crop of an image that goes through the network."""

    view: View
    is_mirrored: bool = False
    """Left and right swapped after the crop; the prediction is mirrored back."""


class ViewPlan(NamedTuple):
    """Which crops of an image are looked at, and whether their predictions are fused."""

    shots: tuple[Shot, ...]
    """Where they are fused the reference comes first, whether it counts as a view or not."""
    is_fused: bool = False
    counts_reference: bool = False
    """Whether the reference is one of the views as well, as in METRO: then it counts twice."""

    @property
    def num_views(self) -> int:
        """Views that are aligned to the reference and summed."""
        return len(self.shots) - (0 if self.counts_reference else 1) if self.is_fused else 1


def single_view(view: View = PLAIN_VIEW) -> ViewPlan:
    """Predictions under one view, as they are."""
    return ViewPlan((Shot(view),))


def fused_views(views: Iterable[View], flip: bool = False) -> ViewPlan:
    """All views fused around the prediction under `PLAIN_VIEW`; with `flip`, mirrored ones too."""
    mirrored = (False, True) if flip else (False,)
    shots = tuple(Shot(view, mirror) for mirror in mirrored for view in views)
    reference = Shot(PLAIN_VIEW)
    others = tuple(shot for shot in shots if shot != reference)
    return ViewPlan((reference, *others), is_fused=True, counts_reference=reference in shots)


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

    def add_views(self, joints: Float[Tensor, "K J 3"], vertices: Float[Tensor, "K V 3"]) -> None:
        """Align and add K more views at once, where the fusion is of a single sample.

        Raises:
            ValueError: the fusion is of several samples, or the shapes are not the reference's.
        """
        if len(self._reference.joints) != 1:
            raise ValueError(
                f"views of {len(self._reference.joints)} samples are added one by one with add()"
            )
        for total, points, reference in zip(
            self._sum, (joints, vertices), self._reference, strict=True
        ):
            whole = reference.expand(len(points), -1, -1)
            total += fit_similarity(points, whole).apply(points).sum(dim=0)
        self.num_views += len(joints)

    def result(self) -> FusedMesh:
        """The fused prediction of the views so far; a view whose points all coincide makes NaN."""
        return FusedMesh(*(total / (1 + self.num_views) for total in self._sum))
