"""What training minimises: targets from labels, one function a term, and METRO's sum of them."""

from metro_ray.losses.targets import Targets, build_targets
from metro_ray.losses.terms import joints_3d_loss, keypoints_2d_loss, vertices_loss
from metro_ray.losses.total import LossWeights, MeshLosses, compute_losses

__all__ = [
    "LossWeights",
    "MeshLosses",
    "Targets",
    "build_targets",
    "compute_losses",
    "joints_3d_loss",
    "keypoints_2d_loss",
    "vertices_loss",
]
