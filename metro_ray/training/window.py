"""Gradient accumulation: the batches of one step, each with its share of the labels of all.

A loss term is the mean over the rows that carry its label. So that the terms of a step's batches
add up to the mean over all of their rows, each batch counts with the share of those rows that it
holds, whichever batches they fell into and whether or not the last window of an epoch is smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from metro_ray.losses import LossWeights, MeshLosses

if TYPE_CHECKING:
    from metro_ray.losses import Targets


class LabelShares(NamedTuple):
    """Which part of a window's labelled rows a batch holds, by kind of label; scalars."""

    joints_3d: Float[Tensor, ""]
    keypoints_2d: Float[Tensor, ""]
    vertices: Float[Tensor, ""]


def label_shares(targets: Sequence[Targets]) -> list[LabelShares]:
    """The shares of each batch of a window; they add up to 1 where a label is there at all."""
    # The 2D term counts every valid row, as METRO's does.
    flags = [torch.stack([t.has_joints_3d, t.valid, t.has_mesh]) for t in targets]
    counts = torch.stack([flag.sum(dim=1) for flag in flags]).float()
    shares = counts / counts.sum(dim=0).clamp(min=1)
    return [LabelShares(*row.unbind()) for row in shares]


def take_share(losses: MeshLosses, share: LabelShares, weights: LossWeights) -> MeshLosses:
    """The part of the window's losses that this batch is."""
    joints_3d = losses.joints_3d * share.joints_3d
    keypoints_2d = losses.keypoints_2d * share.keypoints_2d
    vertices = losses.vertices * share.vertices
    kinds = share._asdict()
    terms = {
        name: term * next(part for kind, part in kinds.items() if name.startswith(kind))
        for name, term in losses.terms.items()
    }
    total = weights.joints * joints_3d + weights.vertices * (vertices + keypoints_2d)
    return losses._replace(
        total=total,
        joints_3d=joints_3d,
        keypoints_2d=keypoints_2d,
        vertices=vertices,
        terms=terms,
    )
