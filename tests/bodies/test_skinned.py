"""SMPL and MANO beyond the goldens: gradients, precision, buffers."""

import pytest
import torch

from metro_ray.bodies import load_body

LICENSED = ("smpl", "mano")


@pytest.fixture(scope="module", params=LICENSED)
def body(request, assets_dir):
    return load_body(request.param, assets_dir)


def random_input(body, batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    pose = 0.4 * torch.randn(batch, body.spec.num_pose, generator=generator, dtype=dtype)
    betas = torch.randn(batch, body.spec.num_betas, generator=generator, dtype=dtype)
    return pose, betas


def test_sizes_are_those_of_the_spec(body):
    spec = body.spec
    posed = body(*random_input(body))
    assert posed.vertices.shape == (2, spec.num_vertices, 3)
    assert posed.joints.shape == (2, len(spec.label_joints), 3)
    assert body.joints_from_mesh(posed.vertices).shape == (2, spec.num_joints, 3)
    assert body.root_from_mesh(posed.vertices).shape == (2, 1, 3)
    assert body.template_tokens().shape == (spec.num_tokens, 3)
    for level, count in enumerate(spec.vertex_levels):
        assert body.downsample(posed.vertices, level).shape == (2, count, 3)
        assert body.level_faces(level).max() < count
    shapes = [matrix.shape for matrix in body.upsampling_matrices()]
    assert shapes == list(zip(spec.vertex_levels[1:], spec.vertex_levels, strict=False))


def test_float32_is_close_to_float64(body):
    pose, betas = random_input(body, dtype=torch.float64)
    single = body(pose.float(), betas.float()).vertices
    double = body.double()(pose.float().double(), betas.float().double()).vertices
    body.float()
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, atol=2e-6, rtol=0)


def test_gradient_of_pose_and_betas_is_right(assets_dir):
    hand = load_body("mano", assets_dir).double()
    pose, betas = random_input(hand, batch=1, dtype=torch.float64)
    pose.requires_grad_()
    betas.requires_grad_()
    few = [0, 100, 444]
    assert torch.autograd.gradcheck(lambda p, b: hand(p, b).vertices[:, few], (pose, betas))


def test_gradient_is_finite_at_the_zero_pose(body):
    pose = torch.zeros(1, body.spec.num_pose, requires_grad=True)
    body(pose, torch.zeros(1, body.spec.num_betas)).vertices.square().sum().backward()
    assert pose.grad.isfinite().all()
    assert pose.grad.abs().max() > 0


def test_constants_are_not_saved(body):
    assert not body.state_dict()
    assert not list(body.parameters())


def test_hand_mean_is_the_rest_pose(assets_dir):
    hand = load_body("mano", assets_dir)
    flat = -hand.get_buffer("mean_pose")[None]
    mean, without = hand(torch.zeros(1, 48), torch.zeros(1, 10)), hand(flat, torch.zeros(1, 10))
    torch.testing.assert_close(without.vertices[0], hand.get_buffer("rest_vertices"))
    assert (mean.vertices - without.vertices).abs().max() > 1e-3
