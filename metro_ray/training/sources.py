"""Losses by source of a mixture: sums and counts of a step, read with its other numbers.

A row's loss is what `compute_losses` gives for that row alone. A source's loss is put together from
its rows as a batch's is: each kind of label is averaged over the rows that carry it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map

from metro_ray.losses import LossWeights, Targets, compute_losses
from metro_ray.models import MeshPrediction

if TYPE_CHECKING:
    from metro_ray.bodies import MeshSpec

MOST_SOURCES = 20
"""More are not told apart: a composite of hundreds of files is one data set to its readers."""
_SHOWN = 6


class SourceSums(NamedTuple):
    """Of the rows of one source, as plain numbers."""

    rows: float = 0.0
    """Valid rows; each counts for the 2D keypoints."""
    joints_3d: float = 0.0
    num_joints_3d: float = 0.0
    keypoints_2d: float = 0.0
    vertices: float = 0.0
    num_vertices: float = 0.0

    def plus(self, other: SourceSums) -> SourceSums:
        """The sums of both."""
        return SourceSums(*(ours + theirs for ours, theirs in zip(self, other, strict=True)))

    def losses(self, weights: LossWeights) -> dict[str, float]:
        """Mean losses by name; a kind that no row is labelled with is left out."""
        if not self.rows:
            return {}
        found = {"loss_keypoints_2d": self.keypoints_2d / self.rows}
        if self.num_joints_3d:
            found["loss_joints_3d"] = self.joints_3d / self.num_joints_3d
        if self.num_vertices:
            found["loss_vertices"] = self.vertices / self.num_vertices
        mesh = found.get("loss_vertices", 0.0) + found["loss_keypoints_2d"]
        total = weights.joints * found.get("loss_joints_3d", 0.0) + weights.vertices * mesh
        return {"loss": total, **found}


@torch.no_grad()
def sum_by_source(
    prediction: MeshPrediction,
    joints_from_mesh: Float[Tensor, "B J 3"],
    targets: Targets,
    source: Int[Tensor, " B"],
    *,
    weights: LossWeights,
    spec: MeshSpec,
    num_sources: int,
) -> Float[Tensor, "S 6"]:
    """Columns of `SourceSums` for each source, on the batch's device.

    Args:
        prediction: Of the network.
        joints_from_mesh: Regressed from the predicted full mesh, metres.
        targets: What it was compared with.
        source: Which source each row comes from.
        weights: How losses add up.
        spec: Of the predicted mesh.
        num_sources: S.
    """

    def alone(*parts: object) -> tuple[Tensor, Tensor, Tensor]:
        camera, joints, from_mesh, vertices, target = tree_map(lambda part: part[None], parts)
        row = MeshPrediction(camera, joints, vertices)
        losses = compute_losses(row, from_mesh, target, weights, spec)
        return losses.joints_3d, losses.keypoints_2d, losses.vertices

    joints_3d, keypoints_2d, vertices = torch.func.vmap(alone)(
        prediction.camera, prediction.joints, joints_from_mesh, prediction.vertices, targets
    )
    columns = {
        "rows": targets.valid,
        "joints_3d": joints_3d,
        "num_joints_3d": targets.has_joints_3d,
        "keypoints_2d": keypoints_2d,
        "vertices": vertices,
        "num_vertices": targets.has_mesh,
    }
    rows = torch.stack([columns[name].float() for name in SourceSums._fields], dim=1)
    return rows.new_zeros(num_sources, len(columns)).index_add_(0, source, rows)


def add_sources(first: Sequence[SourceSums], second: Sequence[SourceSums]) -> list[SourceSums]:
    """The sums of both, source by source; either may be empty."""
    if not first or not second:
        return [*first, *second]
    return [ours.plus(theirs) for ours, theirs in zip(first, second, strict=True)]


def source_values(
    sums: Sequence[SourceSums], names: Sequence[str], weights: LossWeights
) -> dict[str, float]:
    """Rows and mean losses by `NAME/rows`, `NAME/loss`, ..."""
    values: dict[str, float] = {}
    for name, source in zip(names, sums, strict=False):
        values[f"{name}/rows"] = source.rows
        values |= {f"{name}/{loss}": value for loss, value in source.losses(weights).items()}
    return values


def sources_text(values: Mapping[str, float], names: Sequence[str], prefix: str) -> str:
    """Loss and rows of each source for a log line, most rows first; "" where there are none."""
    rows = {name: values.get(f"{prefix}{name}/rows", 0.0) for name in names}
    parts = [
        f"{name} {values[f'{prefix}{name}/loss']:.4f} ({count:.0f})"
        for name, count in sorted(rows.items(), key=lambda item: -item[1])
        if f"{prefix}{name}/loss" in values
    ]
    more = f", and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return f"loss (rows) by source: {', '.join(parts[:_SHOWN])}{more}" if parts else ""
