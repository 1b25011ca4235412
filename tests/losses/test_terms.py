import math

import pytest
import torch

from metro_ray.losses import joints_3d_loss, keypoints_2d_loss, vertices_loss

ALL = torch.ones(2, dtype=torch.bool)
NONE = torch.zeros(2, dtype=torch.bool)


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)


def _labels(values, confidence):
    return torch.cat([values, confidence[..., None]], dim=-1)


def test_2d_error_is_weighted_by_confidence_and_averaged_over_all_joints():
    target = _labels(torch.zeros(2, 4, 2), torch.tensor([[1.0, 0, 0, 0], [0.5, 0, 0, 0]]))
    prediction = torch.full((2, 4, 2), 2.0)
    assert keypoints_2d_loss(prediction, target, ALL).item() == pytest.approx(1.5 * 2 * 4 / 16)


def test_3d_error_does_not_see_the_origin_but_counts_zero_confidence_joints():
    joints = torch.rand(2, 14, 3)
    target = _labels(joints, torch.ones(2, 14))
    moved = joints + torch.tensor([5.0, 0.0, -1.0])
    assert joints_3d_loss(moved, target, ALL, (2, 3)).item() == pytest.approx(0.0, abs=1e-10)
    wrong = joints.clone()
    wrong[:, 0, 0] += 1.0
    hidden = target.clone()
    hidden[:, 1:, 3] = 0.0
    assert joints_3d_loss(wrong, hidden, ALL, (2, 3)).item() == pytest.approx(1 / 42)


def test_the_mesh_error_is_absolute_and_not_recentred():
    vertices = torch.rand(2, 30, 3)
    assert vertices_loss(vertices + 0.25, vertices, ALL).item() == pytest.approx(0.25)


def _all_terms(prediction, label, keep):
    return {
        "joints_3d": joints_3d_loss(prediction, label, keep, (0,)),
        "keypoints_2d": keypoints_2d_loss(prediction[..., :2], label[..., 1:], keep),
        "vertices": vertices_loss(prediction, label[..., :3], keep),
    }


@pytest.mark.parametrize("name", ["joints_3d", "keypoints_2d", "vertices"])
@pytest.mark.parametrize("garbage", [1e30, math.nan, math.inf])
def test_rows_without_the_label_give_neither_value_nor_gradient(name, garbage):
    prediction = torch.rand(2, 5, 3, requires_grad=True)
    label = torch.rand(2, 5, 4)
    label[1] = garbage
    loss = _all_terms(prediction, label, torch.tensor([True, False]))[name]
    alone = _all_terms(prediction[:1], label[:1], ALL[:1])[name]
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)
    loss.backward()
    assert prediction.grad is not None
    assert prediction.grad[0].abs().sum() > 0
    assert torch.equal(prediction.grad[1], torch.zeros(5, 3))


@pytest.mark.parametrize("name", ["joints_3d", "keypoints_2d", "vertices"])
def test_without_any_label_a_term_is_a_zero_in_the_graph(name):
    prediction = torch.rand(2, 5, 3, requires_grad=True)
    loss = _all_terms(prediction, torch.rand(2, 5, 4), NONE)[name]
    assert loss.shape == ()
    assert loss.item() == 0.0
    loss.backward()
    assert torch.equal(prediction.grad, torch.zeros(2, 5, 3))


def test_terms_of_an_empty_batch_are_zero():
    for loss in _all_terms(torch.rand(0, 5, 3), torch.rand(0, 5, 4), NONE[:0]).values():
        assert loss.item() == 0.0


@pytest.mark.parametrize("name", ["joints_3d", "keypoints_2d", "vertices"])
def test_bfloat16_predictions_are_compared_in_float32(name):
    prediction = torch.rand(2, 5, 3, dtype=torch.bfloat16)
    assert _all_terms(prediction, torch.rand(2, 5, 4), ALL)[name].dtype == torch.float32
