"""What SMPL and MANO share: shape and pose blend shapes, then linear blend skinning."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metro_ray.bodies.body import BodyModel
from metro_ray.bodies.lbs import move_bones, skin
from metro_ray.bodies.levels import LevelData
from metro_ray.bodies.model_files import SkinnedModel
from metro_ray.bodies.spec import MeshSpec


class Posed(NamedTuple):
    """Metres."""

    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B N 3"]
    """Joints of the kinematic chain."""


class SkinnedBody(BodyModel):
    """A body model of the SMPL family (SMPL paper, section 3)."""

    def __init__(
        self,
        spec: MeshSpec,
        model: SkinnedModel,
        *,
        joint_regressor: Float[np.ndarray, "J V"],
        root_regressor: Float[np.ndarray, "1 V"],
        levels: LevelData,
    ) -> None:
        super().__init__(
            spec,
            faces=model.faces,
            joint_regressor=joint_regressor,
            root_regressor=root_regressor,
            levels=levels,
        )
        self._parents: Sequence[int] = model.parents
        vertices, shapes = model.vertices, model.shapes
        self._constant("rest_vertices", vertices)
        self._constant("rest_shapes", shapes.reshape(-1, shapes.shape[-1]).T)
        self._constant("rest_joints", model.joint_regressor @ vertices)
        joint_shapes = np.einsum("nv,vcs->snc", model.joint_regressor, shapes)
        self._constant("rest_joint_shapes", joint_shapes)
        pose_shapes = model.pose_shapes
        self._constant("pose_shapes", pose_shapes.reshape(-1, pose_shapes.shape[-1]).T)
        self._constant("skin_weights", model.skin_weights)

    def move(self, rotations: Float[Tensor, "B N 3 3"], betas: Float[Tensor, "B S"]) -> Posed:
        """Vertices and chain joints for a rotation of each joint relative to its parent."""
        shaped = self.get_buffer("rest_vertices") + self._offsets(betas, "rest_shapes")
        joints = self.get_buffer("rest_joints") + torch.einsum(
            "bs,snc->bnc", betas, self.get_buffer("rest_joint_shapes")
        )
        bent = rotations[:, 1:] - torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        shaped = shaped + self._offsets(bent.flatten(1), "pose_shapes")
        motion = move_bones(rotations, joints, self._parents)
        return Posed(
            skin(shaped, self.get_buffer("skin_weights"), motion.transforms), motion.joints
        )

    def _offsets(self, weights: Float[Tensor, "B K"], name: str) -> Float[Tensor, "B V 3"]:
        return (weights @ self.get_buffer(name)).unflatten(1, (-1, 3))
