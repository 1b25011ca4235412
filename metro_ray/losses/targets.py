"""From the labels of a batch to what the network is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.data.sample import Batch


class Targets(NamedTuple):
    """Ground truth of a batch; rows that are not valid carry no label of any kind."""

    vertices: tuple[Float[Tensor, "B _ 3"], ...]  # coarse to full, metres, root-relative
    joints_3d: Float[Tensor, "B J 4"]  # evaluation joints in metres minus the root, confidence
    keypoints_2d: Float[Tensor, "B J 3"]  # evaluation joints in crop coordinates, confidence
    has_mesh: Bool[Tensor, " B"]
    has_joints_3d: Bool[Tensor, " B"]
    has_keypoints_2d: Bool[Tensor, " B"]
    valid: Bool[Tensor, " B"]


@torch.no_grad()
def build_targets(batch: Batch, body: BodyModel) -> Targets:
    """Ground-truth meshes and joints of a batch, on the batch's device.

    The mesh comes from `body(pose, betas)` minus its root: the regressed pelvis for bodies, the
    layer's own wrist where `spec.joint_targets == "layer"` (METRO's hands). There, METRO also
    ignores the annotated 3D joints: the layer's joints with confidence 1 replace them, and the mesh
    flag replaces the 2D and 3D flags. Rows without a mesh are posed with zeros, never with what
    their label columns hold; a CPU batch without any mesh does not run the body model at all.

    Args:
        batch: labels of B rows, as `metro_ray.data` makes them.
        body: the body model of the predicted mesh, on the same device.

    Returns:
        Targets with one vertex tensor per `spec.vertex_levels`.
    """
    spec = body.spec
    picked = list(spec.label_to_joints)
    has_mesh = batch.has_mesh & batch.valid
    keypoints_2d = batch.keypoints_2d[:, picked]
    from_layer = spec.joint_targets == "layer"
    if has_mesh.device.type == "cpu" and not bool(has_mesh.any()):
        num_rows = len(has_mesh)
        vertices = tuple(batch.betas.new_zeros(num_rows, count, 3) for count in spec.vertex_levels)
        layer_joints = batch.betas.new_zeros(num_rows, spec.num_joints, 3) if from_layer else None
    else:
        vertices, layer_joints = _posed_mesh(batch, body, has_mesh)
    if layer_joints is None:
        joints_3d = batch.joints_3d[:, picked]
        has_joints_3d = batch.has_joints_3d & batch.valid
        has_keypoints_2d = batch.has_keypoints_2d & batch.valid
    else:
        joints_3d = torch.cat([layer_joints, torch.ones_like(layer_joints[..., :1])], dim=-1)
        has_joints_3d = has_keypoints_2d = has_mesh
    return Targets(
        vertices, joints_3d, keypoints_2d, has_mesh, has_joints_3d, has_keypoints_2d, batch.valid
    )


def _posed_mesh(
    batch: Batch, body: BodyModel, has_mesh: Bool[Tensor, " B"]
) -> tuple[tuple[Float[Tensor, "B _ 3"], ...], Float[Tensor, "B J 3"] | None]:
    """Root-relative mesh levels and, for layer targets, the layer's joints minus the wrist."""
    spec = body.spec
    keep = has_mesh[:, None]
    with torch.autocast(has_mesh.device.type, enabled=False):
        output = body(torch.where(keep, batch.pose, 0.0), torch.where(keep, batch.betas, 0.0))
        if spec.joint_targets == "layer":
            root = output.joints[:, spec.root_label_joint, None]
            joints = output.joints[:, list(spec.label_to_joints)] - root
        else:
            root = body.root_from_mesh(output.vertices)
            joints = None
        full_level = len(spec.vertex_levels) - 1
        coarse = [body.downsample(output.vertices, level) for level in range(full_level)]
    return tuple(vertices - root for vertices in (*coarse, output.vertices)), joints
