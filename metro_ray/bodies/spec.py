"""What is reconstructed, in numbers: one `MeshSpec` for each body model.

Bodies and hands run through the same code; everything that differs between them is a field here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from metro_ray.bodies.joints import J14, J21, J24, J24_TO_J14, JointSet, flip_pairs
from metro_ray.errors import ConfigError

SMPL_POSE_FLIP_PAIRS = (
    (1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21), (22, 23),
)  # fmt: skip
ANNY_BODY_POSE_FLIP_PAIRS = ((1, 2), (4, 5), (7, 8), (11, 12), (14, 15), (16, 17), (18, 19))


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshSpec:
    """One body model as the network, the labels and the metrics see it."""

    name: str
    """`smpl`, `mano`, `anny_body` or `anny_hand`."""
    kind: Literal["body", "hand"]
    label_joints: JointSet
    """Joints of annotation rows."""
    joints: JointSet
    """Joints that are tokens and that are evaluated."""
    label_to_joints: tuple[int, ...]
    """Index in `label_joints` of each of `joints`."""
    root_label_joint: int
    """Label joint that is subtracted from 3D labels."""
    center_joints: tuple[int, ...]
    """Of `joints`: their mean centres MPJPE and the 3D joint loss."""
    vertex_levels: tuple[int, ...]
    """Numbers of vertices, coarse to full."""
    num_pose: int
    """Length of the axis-angle pose; the first three numbers are the global orientation."""
    num_betas: int
    label_flip_pairs: tuple[tuple[int, int], ...]
    """Label joints that swap in a mirrored sample; empty: never mirrored."""
    pose_flip_pairs: tuple[tuple[int, int], ...]
    """Pose joints that swap in a mirrored sample."""
    mask_fraction: float
    """Largest share of tokens that masked modelling hides."""
    camera_hidden: int
    """Width of the camera head's hidden layer."""
    camera_tokens: Literal["vertices", "all"]
    """Tokens that the camera head reads."""
    image_feature: Literal["grid", "pooled"]
    """Image feature of a token: the 7 x 7 map mixed per token, or one pooled vector for all."""
    joint_targets: Literal["annotation", "layer"]
    """Where 3D joint targets come from: the label row, or the body model posed by the label."""
    intermediate_size: Literal["metro_body", "4x"]
    """Feed-forward width: 3072 in every block, or four times the block's hidden width."""

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def num_coarse(self) -> int:
        return self.vertex_levels[0]

    @property
    def num_tokens(self) -> int:
        return self.num_joints + self.num_coarse

    @property
    def num_vertices(self) -> int:
        return self.vertex_levels[-1]


_SMPL = MeshSpec(
    name="smpl",
    kind="body",
    label_joints=J24,
    joints=J14,
    label_to_joints=J24_TO_J14,
    root_label_joint=J24.index("Pelvis"),
    center_joints=(J14.index("R_Hip"), J14.index("L_Hip")),
    vertex_levels=(431, 1723, 6890),
    num_pose=72,
    num_betas=10,
    label_flip_pairs=flip_pairs(J24.names),
    pose_flip_pairs=SMPL_POSE_FLIP_PAIRS,
    mask_fraction=0.3,
    camera_hidden=250,
    camera_tokens="vertices",
    image_feature="grid",
    joint_targets="annotation",
    intermediate_size="metro_body",
)
_MANO = MeshSpec(
    name="mano",
    kind="hand",
    label_joints=J21,
    joints=J21,
    label_to_joints=tuple(range(21)),
    root_label_joint=0,
    center_joints=(0,),
    vertex_levels=(195, 778),
    num_pose=48,
    num_betas=10,
    label_flip_pairs=(),
    pose_flip_pairs=(),
    mask_fraction=0.0,
    camera_hidden=150,
    camera_tokens="all",
    image_feature="pooled",
    joint_targets="layer",
    intermediate_size="4x",
)
_ANNY_BODY = replace(
    _SMPL,
    name="anny_body",
    vertex_levels=(369, 1229, 12272),
    num_pose=60,
    num_betas=6,
    pose_flip_pairs=ANNY_BODY_POSE_FLIP_PAIRS,
)
_ANNY_HAND = replace(
    _MANO,
    name="anny_hand",
    vertex_levels=(195, 1596),
    num_betas=6,
    joint_targets="annotation",
)

SPECS: dict[str, MeshSpec] = {spec.name: spec for spec in (_SMPL, _MANO, _ANNY_BODY, _ANNY_HAND)}


def get_spec(name: str) -> MeshSpec:
    """The spec of a body model by name.

    Raises:
        ConfigError: no body model has this name.
    """
    if name not in SPECS:
        raise ConfigError(f"unknown body model {name!r}; choose one of: {', '.join(SPECS)}")
    return SPECS[name]
