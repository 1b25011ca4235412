import math

import pytest
import roma
import torch

from metro_ray.geometry.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    mirror_axis_angle,
    quaternion_to_matrix,
)


def random_axis_angle(count, scale=1.5):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(count, 3, generator=generator, dtype=torch.float64)


def test_agrees_with_the_exponential_map_to_the_offset():
    axis_angle = random_axis_angle(50)
    difference = axis_angle_to_matrix(axis_angle) - roma.rotvec_to_rotmat(axis_angle)
    assert 0 < difference.abs().max() < 5e-8


def test_offset_goes_into_each_component_before_the_norm():
    tiny = torch.tensor([[0.0, 1e-8, 0.0]], dtype=torch.float64)
    angle = 1e-8 * math.sqrt(1 + 4 + 1)
    # the rotation is by 1e-8 / angle of the angle: sin(angle) * axis_y
    assert axis_angle_to_matrix(tiny)[0, 0, 2].item() == pytest.approx(
        2 * math.sin(angle / 2) * (1e-8 / angle), rel=1e-9
    )


def test_zero_rotation_is_identity_with_finite_gradient():
    zero = torch.zeros(2, 3, requires_grad=True)
    matrix = axis_angle_to_matrix(zero)
    torch.testing.assert_close(matrix, torch.eye(3).expand(2, 3, 3))
    matrix[:, 0, 1].sum().backward()
    # d R[0, 1] / d z is -1 at the identity
    torch.testing.assert_close(zero.grad, torch.tensor([[0.0, 0.0, -1.0]] * 2))


def test_shapes_keep_leading_axes():
    assert axis_angle_to_matrix(torch.zeros(2, 24, 3)).shape == (2, 24, 3, 3)


def test_quaternions_need_not_be_normalised():
    quaternion = torch.tensor([0.5, 1.0, -2.0, 0.3])
    torch.testing.assert_close(
        quaternion_to_matrix(quaternion), quaternion_to_matrix(3 * quaternion)
    )


def test_round_trip_to_axis_angle():
    axis_angle = random_axis_angle(50, scale=1.0)
    axis_angle = axis_angle[axis_angle.norm(dim=1) < 3.0]
    back = matrix_to_axis_angle(axis_angle_to_matrix(axis_angle))
    torch.testing.assert_close(back, axis_angle, atol=1e-6, rtol=0)


def test_mirrored_vector_is_the_mirrored_rotation():
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    axis_angle = random_axis_angle(20)
    torch.testing.assert_close(
        axis_angle_to_matrix(mirror_axis_angle(axis_angle)),
        mirror @ axis_angle_to_matrix(axis_angle) @ mirror,
        atol=1e-7,
        rtol=0,
    )
