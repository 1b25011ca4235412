"""METRO's three loss functions on fixed tensors (golden g5_g6_loss_functions.json)."""

import pytest
import recipe
import torch

from metro_ray.bodies.spec import get_spec
from metro_ray.losses import joints_3d_loss, keypoints_2d_loss, vertices_loss

SPECS = {"body": get_spec("smpl"), "hand": get_spec("mano")}


def _inputs(prefix, who, num_joints):
    base = f"{prefix}input/{who}/lossfn/"

    def labels(name, width):
        values = recipe.tensor(base + name, (3, num_joints, width), 0.0, 1.0)
        values[:, :, -1] = recipe.binary(base + name + "_conf", (3, num_joints), 0.7)
        return torch.from_numpy(values)

    def points(name, *shape):
        return torch.from_numpy(recipe.tensor(base + name, (3, *shape), 0.0, 1.0))

    return {
        "pred_3d": points("pred_3d", num_joints, 3),
        "gt_3d": labels("gt_3d", 4),
        "pred_2d": points("pred_2d", num_joints, 2),
        "gt_2d": labels("gt_2d", 3),
        "pred_v": points("pred_v", 195, 3),
        "gt_v": points("gt_v", 195, 3),
    }


@pytest.mark.parametrize("flags", ["111", "101", "010", "000"])
@pytest.mark.parametrize("who", ["body", "hand"])
def test_loss_functions(model_goldens, who, flags):
    golden = model_goldens.json("g5_g6_loss_functions.json")[who][flags]
    spec = SPECS[who]
    given = _inputs(model_goldens.prefix, who, spec.num_joints)
    flagged = torch.tensor([flag == "1" for flag in flags])
    everything = torch.ones(3, dtype=torch.bool)  # QUIRKS 44: METRO ignores has_2d_joints
    ours = {
        "keypoint_2d": keypoints_2d_loss(given["pred_2d"], given["gt_2d"], everything),
        "keypoint_3d": joints_3d_loss(
            given["pred_3d"], given["gt_3d"], flagged, spec.center_joints
        ),
        "vertices": vertices_loss(given["pred_v"], given["gt_v"], flagged),
    }
    for name, loss in ours.items():
        assert loss.item() == pytest.approx(golden[name], rel=2e-6), name
        # Without a flagged sample METRO returns a zero of shape (1,) (QUIRKS 47); ours is a scalar.
        unlabelled = flags == "000" and name != "keypoint_2d"
        assert golden["shapes"][name] == ([1] if unlabelled else [])
        assert loss.shape == ()
