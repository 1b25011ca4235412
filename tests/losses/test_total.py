import pytest
import torch
from torch import nn
from toys import ToyBody, take, toy_batch

from metro_ray.errors import ConfigError
from metro_ray.losses import LossWeights, build_targets, compute_losses
from metro_ray.models import MeshPrediction

NO_ROWS = torch.zeros(8, dtype=torch.bool)


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)


class TinyNetwork(nn.Module):
    """One parameter tensor per head, so that a missing gradient path shows."""

    def __init__(self, spec):
        super().__init__()
        self.camera = nn.Parameter(torch.rand(3))
        self.joints = nn.Parameter(torch.rand(spec.num_joints, 3))
        self.coarse = nn.Parameter(torch.rand(spec.vertex_levels[0], 3))
        self.up = nn.ParameterList(
            torch.rand(fine, coarse)
            for coarse, fine in zip(spec.vertex_levels, spec.vertex_levels[1:], strict=False)
        )

    def forward(self, rows):
        levels = [self.coarse.expand(rows, -1, -1)]
        for up in self.up:
            levels.append(up @ levels[-1])
        return MeshPrediction(
            self.camera.expand(rows, -1), self.joints.expand(rows, -1, -1), tuple(levels)
        )


@pytest.fixture
def body():
    return ToyBody()


def _losses(network, body, batch, weights=None):
    prediction = network(batch.num_rows)
    joints = body.joints_from_mesh(prediction.vertices[-1])
    targets = build_targets(batch, body)
    return compute_losses(prediction, joints, targets, weights or LossWeights(), body.spec)


def test_total_is_metros_sum(body):
    losses = _losses(TinyNetwork(body.spec), body, toy_batch(body))
    terms = losses.terms
    joints = terms["joints_3d"] + terms["joints_3d_from_mesh"]
    planar = terms["keypoints_2d"] + terms["keypoints_2d_from_mesh"]
    mesh = 0.33 * (terms["vertices_5"] + terms["vertices_10"] + terms["vertices_40"])
    expected = 1000 * joints + 100 * mesh + 100 * planar
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-6)


LABEL_KINDS = {
    "vertices only": {"has_joints_3d": NO_ROWS, "keypoints_2d": torch.zeros(8, 24, 3)},
    "3D joints only": {"has_mesh": NO_ROWS, "keypoints_2d": torch.zeros(8, 24, 3)},
    "2D only": {"has_mesh": NO_ROWS, "has_joints_3d": NO_ROWS},
    "nothing": {"valid": NO_ROWS},
}


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_every_parameter_gets_a_gradient_whatever_the_labels(kind, body):
    network = TinyNetwork(body.spec)
    losses = _losses(network, body, toy_batch(body, **LABEL_KINDS[kind]))
    assert losses.total.shape == ()
    losses.total.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient path"
        assert parameter.grad.isfinite().all()
    assert (losses.total.item() == 0.0) == (kind == "nothing")


def test_rows_that_are_not_valid_change_nothing(body):
    network = TinyNetwork(body.spec)
    batch = toy_batch(body)
    torn = batch.joints_3d.clone()
    torn[5:] = 1e6
    valid = torch.arange(8) < 5
    with_fillers = _losses(network, body, batch._replace(joints_3d=torn, valid=valid))
    without = _losses(network, body, take(batch, range(5)))
    assert with_fillers.total.item() == pytest.approx(without.total.item(), rel=1e-6)


def test_one_share_per_level_is_asked_for(body):
    with pytest.raises(ConfigError, match=r"loss\.levels has 2 shares, but toy_body has 3"):
        _losses(TinyNetwork(body.spec), body, toy_batch(body), LossWeights(levels=(0.5, 0.5)))
