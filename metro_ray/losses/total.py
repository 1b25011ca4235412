"""METRO's sum of loss terms (paper sec. 3.4; weights of metro/tools/run_metro_*mesh.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Float
from torch import Tensor

from metro_ray.errors import ConfigError
from metro_ray.geometry.cameras import project
from metro_ray.losses.terms import joints_3d_loss, keypoints_2d_loss, vertices_loss

if TYPE_CHECKING:
    from metro_ray.bodies import MeshSpec
    from metro_ray.losses.targets import Targets
    from metro_ray.models import MeshPrediction


@dataclass(frozen=True, kw_only=True, slots=True)
class LossWeights:
    """How the terms add up: joints * 3D + vertices * (sum of levels * mesh) + vertices * 2D."""

    joints: float = 1000.0
    """Weight of the 3D joint terms."""
    vertices: float = 100.0
    """Weight of the mesh terms and, as in METRO, of the 2D keypoint terms."""
    levels: tuple[float, ...] = (0.33, 0.33, 0.33)
    """Share of each mesh level, coarse to full."""


class MeshLosses(NamedTuple):
    """The total and its parts; every tensor is a scalar."""

    total: Float[Tensor, ""]
    joints_3d: Float[Tensor, ""]  # square metres, token joints + joints regressed from the mesh
    keypoints_2d: Float[Tensor, ""]  # squared crop units, likewise
    vertices: Float[Tensor, ""]  # metres, levels added with their shares
    terms: dict[str, Tensor]  # every single term by name, unweighted


def compute_losses(
    prediction: MeshPrediction,
    joints_from_mesh: Float[Tensor, "B J 3"],
    targets: Targets,
    weights: LossWeights,
    spec: MeshSpec,
) -> MeshLosses:
    """All terms and their weighted sum; each 2D and 3D term is used twice, as in METRO.

    Args:
        prediction: of the network.
        joints_from_mesh: regressed from the predicted full mesh (`body.joints_from_mesh`), metres.
        targets: of `build_targets`.
        weights: how the terms add up.
        spec: of the predicted mesh; its `center_joints` centre the 3D terms.

    Raises:
        ConfigError: the weights do not name one share per mesh level.
    """
    if len(weights.levels) != len(prediction.vertices):
        raise ConfigError(
            f"loss.levels has {len(weights.levels)} shares, but {spec.name} has "
            f"{len(prediction.vertices)} mesh levels {spec.vertex_levels}: give one share per level"
        )
    joints = {"": prediction.joints, "_from_mesh": joints_from_mesh}
    spatial = {
        f"joints_3d{source}": joints_3d_loss(
            value, targets.joints_3d, targets.has_joints_3d, spec.center_joints
        )
        for source, value in joints.items()
    }
    planar = {
        f"keypoints_2d{source}": keypoints_2d_loss(
            project(value, prediction.camera), targets.keypoints_2d, targets.valid
        )
        for source, value in joints.items()
    }
    mesh = {
        f"vertices_{level.shape[1]}": vertices_loss(level, target, targets.has_mesh)
        for level, target in zip(prediction.vertices, targets.vertices, strict=True)
    }
    joints_3d = spatial["joints_3d"] + spatial["joints_3d_from_mesh"]
    keypoints_2d = planar["keypoints_2d"] + planar["keypoints_2d_from_mesh"]
    shares = zip(weights.levels, mesh.values(), strict=True)
    first_share, first_level = next(shares)
    vertices = first_share * first_level
    for share, level in shares:
        vertices = vertices + share * level
    total = weights.joints * joints_3d + weights.vertices * (vertices + keypoints_2d)
    return MeshLosses(total, joints_3d, keypoints_2d, vertices, {**spatial, **mesh, **planar})
