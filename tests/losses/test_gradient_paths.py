"""The real network on real body models (stand-ins): every parameter learns from every label kind."""

import pytest
import torch
from torch import nn
from toys import toy_batch

from metro_ray.bodies import load_body
from metro_ray.losses import LossWeights, build_targets, compute_losses
from metro_ray.models import build_metro

NONE = torch.zeros(2, dtype=torch.bool)


@pytest.fixture(scope="module", params=["smpl", "mano"])
def parts(request, assets_dir):
    torch.manual_seed(0)
    body = load_body(request.param, assets_dir)
    model = build_metro(
        body.spec,
        body.template_tokens(),
        arch="hrnet-w18-small",
        input_feat_dim=(2051, 32, 16),
        hidden_feat_dim=(32, 16, 16),
        num_hidden_layers=1,
        num_attention_heads=2,
        dropout=0.1,
    )
    # What a backbone returns, without its minutes: its own parameters hang on the same features.
    model.backbone = nn.Sequential(nn.AvgPool2d(32), nn.Conv2d(3, 2048, kernel_size=1))
    return body, model


def _no_points(batch):
    return {"keypoints_2d": torch.zeros_like(batch.keypoints_2d)}


KINDS = {
    "vertices only": lambda batch: {"has_joints_3d": NONE, **_no_points(batch)},
    "3D joints only": lambda batch: {"has_mesh": NONE, **_no_points(batch)},
    "2D only": lambda batch: {"has_mesh": NONE, "has_joints_3d": NONE},
    "nothing": lambda batch: {"valid": NONE},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_gradient(parts, kind):
    body, model = parts
    batch = toy_batch(body, rows=2)
    batch = batch._replace(**KINDS[kind](batch))
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    model.zero_grad(set_to_none=True)
    prediction = model(images, batch.token_mask)
    joints = body.joints_from_mesh(prediction.vertices[-1])
    levels = len(body.spec.vertex_levels)
    weights = LossWeights(levels=(1 / levels,) * levels)
    losses = compute_losses(prediction, joints, build_targets(batch, body), weights, body.spec)
    losses.total.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert not without
    assert all(p.grad.isfinite().all() for p in model.parameters())
