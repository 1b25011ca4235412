"""MANO, right hand, with METRO's 21 joints, in metres."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metro_ray.bodies.assets import MANO_FILE, MANO_SAMPLING_FILE
from metro_ray.bodies.body import BodyOutput
from metro_ray.bodies.levels import LevelData
from metro_ray.bodies.model_files import SkinnedModel, read_levels, read_skinned_model
from metro_ray.bodies.skinned import SkinnedBody
from metro_ray.bodies.spec import get_spec
from metro_ray.geometry.rotations import axis_angle_to_matrix

# The model's 16 joints run wrist, index, middle, pinky, ring, thumb; five tips follow, thumb first.
_J21_ORDER = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
LAYER_TIPS = (745, 317, 444, 556, 673)
"""Tip vertices of the layer's joints, thumb first (manopth)."""
REGRESSOR_TIPS = (745, 317, 445, 556, 673)
"""Tip vertices of METRO's regressor: its middle finger ends one vertex beside the layer's."""


class ManoHand(SkinnedBody):
    """MANO with 778 vertices and 16 joints (48 pose numbers, 10 betas).

    The 45 finger numbers are relative to MANO's mean pose, which is added to them. `joints` of the
    output come from the kinematic chain and the layer's tips; `joint_regressor` applies the rest
    regressor and METRO's tips to the posed mesh, so the two differ even for the same mesh.
    """

    def __init__(self, model: SkinnedModel, levels: LevelData) -> None:
        """Keeps the model.

        Args:
            model: with its mean pose.
            levels: of METRO's sampling file.
        """
        tips = np.zeros((len(REGRESSOR_TIPS), len(model.vertices)))
        tips[np.arange(len(REGRESSOR_TIPS)), REGRESSOR_TIPS] = 1.0
        regressor = np.concatenate([model.joint_regressor, tips])[list(_J21_ORDER)]
        super().__init__(
            get_spec("mano"),
            model,
            joint_regressor=regressor,
            root_regressor=regressor[:1],
            levels=levels,
        )
        assert model.hand_mean is not None
        self._constant("mean_pose", np.concatenate([np.zeros(3), model.hand_mean]))
        self._constant("tips", np.array(LAYER_TIPS))
        self._constant("label_rows", np.array(_J21_ORDER))
        self._keep_template()

    def forward(self, pose: Float[Tensor, "B 48"], betas: Float[Tensor, "B 10"]) -> BodyOutput:
        full_pose = pose + self.get_buffer("mean_pose")
        posed = self.move(axis_angle_to_matrix(full_pose.unflatten(1, (-1, 3))), betas)
        joints = torch.cat([posed.joints, posed.vertices[:, self.get_buffer("tips")]], dim=1)
        return BodyOutput(posed.vertices, joints[:, self.get_buffer("label_rows")])


def load_mano(assets_root: str | Path | None = None) -> ManoHand:
    """MANO from its file and METRO's sampling file.

    Raises:
        AssetNotFoundError: one of them is missing.
        AssetError: one of them has the wrong or unsafe content.
    """
    spec = get_spec("mano")
    return ManoHand(
        read_skinned_model(MANO_FILE, spec, assets_root),
        read_levels(MANO_SAMPLING_FILE, spec, assets_root),
    )
