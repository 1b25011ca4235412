import math

import numpy as np
import pytest
import torch

from metro_ray.metrics import mpjpe, mpve, pa_mpjpe, pa_mpve


def _points(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape))


def _rotation(angle):
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def test_mpjpe_ignores_the_origin_of_either_side():
    joints = _points(3, 14, 3)
    moved = joints + torch.tensor([1.0, -2.0, 0.5])
    torch.testing.assert_close(mpjpe(moved, joints, (2, 3)), torch.zeros(3, dtype=torch.float64))


def test_mpjpe_centres_on_the_mean_of_the_centre_joints():
    joints = torch.zeros(1, 14, 3)
    prediction = joints.clone()
    prediction[0, 2, 0] = 0.2  # moves the centre by 0.1: two hips 0.1 off, twelve joints 0.1 off
    assert mpjpe(prediction, joints, (2, 3)).item() == pytest.approx(0.1)


def test_mpve_does_not_recentre():
    vertices = _points(2, 30, 3)
    moved = vertices + torch.tensor([0.03, 0.04, 0.0])
    torch.testing.assert_close(mpve(moved, vertices), torch.full((2,), 0.05, dtype=torch.float64))


def test_aligned_errors_ignore_rotation_scale_and_translation():
    target = _points(4, 14, 3)
    source = 2.5 * target @ _rotation(1.0).T + 3.0
    assert pa_mpjpe(source, target).max() < 1e-12
    assert pa_mpve(source, target).max() < 1e-12


def test_aligned_errors_do_not_undo_a_reflection():
    target = _points(1, 14, 3)
    assert pa_mpjpe(target * torch.tensor([-1.0, 1.0, 1.0]), target).item() > 0.05


def test_aligned_error_is_not_larger_than_the_error_itself():
    source, target = _points(20, 14, 3, seed=1), _points(20, 14, 3, seed=2)
    centred = target - target.mean(dim=1, keepdim=True)
    squared = (source - source.mean(dim=1, keepdim=True) - centred).square().sum(dim=(1, 2))
    from metro_ray.geometry.procrustes import similarity_align

    aligned = (similarity_align(source, target) - target).square().sum(dim=(1, 2))
    assert (aligned <= squared + 1e-12).all()


def test_float32_inputs_are_measured_in_float64():
    prediction, target = _points(5, 14, 3).float(), _points(5, 14, 3, seed=3).float()
    for measured in (pa_mpjpe(prediction, target), mpjpe(prediction, target, (0,))):
        assert measured.dtype == torch.float64
