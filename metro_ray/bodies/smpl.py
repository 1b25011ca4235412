"""SMPL, neutral, with METRO's joints: 24 annotated ones and the 14 of Human3.6M's 17."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from metro_ray.bodies.assets import (
    EXTRA_REGRESSOR_FILE,
    H36M_REGRESSOR_FILE,
    SMPL_FILE,
    SMPL_SAMPLING_FILE,
)
from metro_ray.bodies.body import BodyOutput
from metro_ray.bodies.joints import J17, J17_TO_J14
from metro_ray.bodies.levels import LevelData
from metro_ray.bodies.model_files import (
    SkinnedModel,
    read_levels,
    read_regressor,
    read_skinned_model,
)
from metro_ray.bodies.skinned import SkinnedBody
from metro_ray.bodies.spec import get_spec
from metro_ray.geometry.rotations import axis_angle_to_matrix

_J38_TO_J24 = (
    8, 5, 29, 30, 4, 7, 21, 19, 17, 16, 18, 20, 31, 32, 33, 34, 35, 36, 37, 24, 26, 25, 28, 27,
)  # fmt: skip
_NUM_EXTRA = 14


class SmplBody(SkinnedBody):
    """SMPL with 6890 vertices and 24 joints (72 pose numbers, 10 betas).

    `joints` of the output are METRO's 24, all regressed from the posed mesh: 10 rows of SMPL's own
    joint regressor, which METRO applies outside the rest pose too, and 14 extra rows. Evaluation
    joints and the root (pelvis) are rows of the Human3.6M regressor.
    """

    h36m_regressor: Float[Tensor, "17 V"]
    """All rows in the order of J17; some sum to 0.9996 .. 1.0001, as published."""

    def __init__(
        self,
        model: SkinnedModel,
        h36m_regressor: Float[np.ndarray, "17 V"],
        extra_regressor: Float[np.ndarray, "14 V"],
        levels: LevelData,
    ) -> None:
        super().__init__(
            get_spec("smpl"),
            model,
            joint_regressor=h36m_regressor[list(J17_TO_J14)],
            root_regressor=h36m_regressor[:1],
            levels=levels,
        )
        self._constant("h36m_regressor", h36m_regressor)
        all_rows = np.concatenate([model.joint_regressor, extra_regressor])
        self._constant("label_regressor", all_rows[list(_J38_TO_J24)])
        self._keep_template()

    def forward(self, pose: Float[Tensor, "B 72"], betas: Float[Tensor, "B 10"]) -> BodyOutput:
        return self.from_rotations(axis_angle_to_matrix(pose.unflatten(1, (-1, 3))), betas)

    def from_rotations(
        self, rotations: Float[Tensor, "B 24 3 3"], betas: Float[Tensor, "B 10"]
    ) -> BodyOutput:
        """The body for rotation matrices instead of axis-angle."""
        vertices = self.move(rotations, betas).vertices
        return BodyOutput(vertices, self.get_buffer("label_regressor") @ vertices)


def load_smpl(assets_root: str | Path | None = None) -> SmplBody:
    """SMPL from METRO's four files.

    Raises:
        AssetNotFoundError: one of them is missing.
        AssetError: one of them has the wrong or unsafe content.
    """
    spec = get_spec("smpl")
    shape = (len(J17), spec.num_vertices)
    return SmplBody(
        read_skinned_model(SMPL_FILE, spec, assets_root),
        read_regressor(H36M_REGRESSOR_FILE, shape, assets_root),
        read_regressor(EXTRA_REGRESSOR_FILE, (_NUM_EXTRA, spec.num_vertices), assets_root),
        read_levels(SMPL_SAMPLING_FILE, spec, assets_root),
    )
