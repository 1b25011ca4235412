"""One call for all body models: pose and shape in, vertices and joints in metres out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from metro_ray.bodies.levels import LevelData, MeshLevels
from metro_ray.bodies.spec import MeshSpec

TEMPLATE_ROLL = 3.1416
"""METRO turns the body template upright with this rotation about x (not pi)."""


class BodyOutput(NamedTuple):
    """A posed body.

    Attributes:
        vertices: full mesh, metres.
        joints: the model's own joints in the order of `spec.label_joints`, metres.
    """

    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B J 3"]


class BodyModel(nn.Module, ABC):
    """A parametric mesh: SMPL, MANO, or the open Anny body or hand.

    Frame: `pose[:, :3]` is the global orientation about the root joint. The rest pose has y up;
    labels turn it into the camera-like frame of METRO (x right, y down, z away from the camera), in
    which (pi, 0, 0) is upright and faces the camera.

    Buffers are constants of the model: they move with it and are not saved.
    """

    faces: Int[Tensor, "F 3"]
    joint_regressor: Float[Tensor, "J V"]
    root_regressor: Float[Tensor, "1 V"]
    neutral_betas: Float[Tensor, "S"]
    """Shape of an average person: zeros for SMPL and MANO."""
    template_vertices: Float[Tensor, "V 3"]
    template_joints: Float[Tensor, "J 3"]

    def __init__(
        self,
        spec: MeshSpec,
        *,
        faces: Int[np.ndarray, "F 3"],
        joint_regressor: Float[np.ndarray, "J V"],
        root_regressor: Float[np.ndarray, "1 V"],
        levels: LevelData,
    ) -> None:
        """Keeps what all body models share.

        Args:
            spec: sizes and joint sets.
            faces: triangles of the full mesh.
            joint_regressor: `spec.joints` from the full mesh.
            root_regressor: the root that is subtracted from meshes, from the full mesh.
            levels: the coarser meshes.
        """
        super().__init__()
        self.spec = spec
        self.levels = MeshLevels(levels)
        self._constant("faces", np.asarray(faces, np.int64))
        self._constant("joint_regressor", joint_regressor)
        self._constant("root_regressor", root_regressor)
        self._constant("neutral_betas", np.zeros(spec.num_betas))

    @abstractmethod
    def forward(self, pose: Float[Tensor, "B P"], betas: Float[Tensor, "B S"]) -> BodyOutput:
        """Vertices and label joints.

        Args:
            pose: axis-angle of each pose joint, radians, flattened; the first three numbers are the
                global orientation.
            betas: shape coefficients.
        """

    def joints_from_mesh(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B J 3"]:
        """`spec.joints` regressed from the full mesh, metres."""
        return self.joint_regressor @ vertices

    def root_from_mesh(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B 1 3"]:
        """The root (pelvis or wrist) regressed from the full mesh, metres."""
        return self.root_regressor @ vertices

    def downsample(self, vertices: Float[Tensor, "B V 3"], level: int) -> Float[Tensor, "B N 3"]:
        """Vertices of one level (0 the coarsest) from those of the full mesh."""
        return self.levels.downsample(vertices, level)

    def level_faces(self, level: int) -> Int[Tensor, "F 3"]:
        """Triangles of one level, 0 the coarsest."""
        return self.faces if level == len(self.levels) - 1 else self.levels.faces(level)

    def upsampling_matrices(self) -> Sequence[Float32[np.ndarray, "F C"]]:
        """Interpolation coarse -> ... -> full, each (finer vertices, coarser vertices)."""
        return self.levels.upsampling_matrices()

    def template_tokens(self) -> Float[Tensor, "N 3"]:
        """Joints, then coarse vertices of the template minus its root: what tokens start from."""
        coarse = self.downsample(self.template_vertices[None], 0)[0]
        return torch.cat([self.template_joints, coarse]) - self._template_root()

    def _template_root(self) -> Float[Tensor, "1 3"]:
        if self.spec.joint_targets == "layer":
            return self.template_joints[:1]
        return self.root_from_mesh(self.template_vertices[None])[0]

    def _constant(self, name: str, values: np.ndarray) -> None:
        tensor = torch.as_tensor(np.ascontiguousarray(values))
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        self.register_buffer(name, tensor, persistent=False)

    @torch.no_grad()
    def _keep_template(self) -> None:
        """Poses the template once; subclasses call it when everything else is there.

        Bodies: zero pose turned by 3.1416 about x, joints regressed from the mesh. Hands: zero
        pose, and the layer's joints where there are such, as METRO's two networks do.
        """
        pose = torch.zeros(1, self.spec.num_pose)
        if self.spec.kind == "body":
            pose[0, 0] = TEMPLATE_ROLL
        posed = self(pose, self.neutral_betas[None])
        from_layer = self.spec.joint_targets == "layer"
        joints = posed.joints if from_layer else self.joints_from_mesh(posed.vertices)
        self.register_buffer("template_vertices", posed.vertices[0], persistent=False)
        self.register_buffer("template_joints", joints[0], persistent=False)
