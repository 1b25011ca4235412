import math

import pytest
import torch
from toys import TOY_HAND, ToyBody, toy_batch

from metro_ray.losses import build_targets


@pytest.fixture
def body():
    return ToyBody()


@pytest.fixture
def hand():
    return ToyBody(TOY_HAND)


def test_meshes_are_relative_to_the_regressed_root_at_every_level(body):
    batch = toy_batch(body)
    full = body(batch.pose, batch.betas).vertices
    targets = build_targets(batch, body)
    assert [level.shape for level in targets.vertices] == [(8, 5, 3), (8, 10, 3), (8, 40, 3)]
    for level, count in zip(targets.vertices, body.spec.vertex_levels, strict=True):
        torch.testing.assert_close(level, full[:, :count] - full[:, :1])


def test_label_joints_become_evaluation_joints(body):
    batch = toy_batch(body)
    targets = build_targets(batch, body)
    assert torch.equal(targets.joints_3d[:, 12:], batch.joints_3d[:, [12, 18]])
    assert torch.equal(targets.keypoints_2d[:, 12:], batch.keypoints_2d[:, [12, 18]])


def test_rows_that_are_not_valid_carry_no_label(body):
    valid = torch.arange(8) % 2 == 0
    targets = build_targets(toy_batch(body, valid=valid), body)
    for flag in (targets.has_mesh, targets.has_joints_3d, targets.has_keypoints_2d, targets.valid):
        assert torch.equal(flag, valid)


def test_a_batch_without_meshes_does_not_run_the_body_model(body):
    batch = toy_batch(body, has_mesh=torch.zeros(8, dtype=torch.bool))
    targets = build_targets(batch, body)
    assert body.calls == 0
    assert [level.shape[1] for level in targets.vertices] == [5, 10, 40]
    assert targets.has_joints_3d.all()


def test_garbage_pose_of_an_unlabelled_row_stays_out(body):
    pose = toy_batch(body).pose
    pose[3] = math.nan
    has_mesh = torch.arange(8) != 3
    targets = build_targets(toy_batch(body, pose=pose, has_mesh=has_mesh), body)
    assert all(level.isfinite().all() for level in targets.vertices)


def test_hand_targets_come_from_the_layer_and_its_wrist(hand):
    batch = toy_batch(hand, has_mesh=torch.arange(8) < 3)
    output = hand(batch.pose, batch.betas)
    targets = build_targets(batch, hand)
    wrist = output.joints[:3, :1]
    torch.testing.assert_close(targets.joints_3d[:3, :, :3], output.joints[:3] - wrist)
    torch.testing.assert_close(targets.vertices[-1][:3], output.vertices[:3] - wrist)
    assert torch.equal(targets.joints_3d[..., 3], torch.ones(8, 21))
    assert torch.equal(targets.has_joints_3d, batch.has_mesh)
    assert torch.equal(targets.has_keypoints_2d, batch.has_mesh)


def test_hand_targets_without_a_mesh_ignore_the_annotated_joints(hand):
    targets = build_targets(toy_batch(hand, has_mesh=torch.zeros(8, dtype=torch.bool)), hand)
    assert hand.calls == 0
    assert targets.joints_3d.shape == (8, 21, 4)
    assert not targets.has_joints_3d.any()
