"""Fusing views: weights, alignment, precision, memory, file names."""

import pytest
import torch

from metro_ray.evaluation.tta import (
    View,
    ViewFusion,
    fused_file_name,
    metro_views,
    view_file_name,
)
from metro_ray.geometry.rotations import axis_angle_to_matrix


@pytest.fixture
def hand():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(2, 21, 3, generator=generator, dtype=torch.float64),
        torch.rand(2, 40, 3, generator=generator, dtype=torch.float64),
    )


def moved(points, scale, axis_angle, shift):
    rotation = axis_angle_to_matrix(torch.tensor([axis_angle], dtype=torch.float64))[0]
    return scale * points @ rotation.T + shift


def test_without_views_the_result_is_the_reference(hand):
    result = ViewFusion(*hand).result()
    assert torch.equal(result.joints, hand[0])
    assert torch.equal(result.vertices, hand[1])


def test_the_way_a_view_is_turned_scaled_and_placed_does_not_matter(hand):
    joints, vertices = hand
    fusion = ViewFusion(joints, vertices)
    for turn in (0.3, -1.5):
        fusion.add(
            moved(joints, 0.7, (0.1, 0.0, turn), 0.5), moved(vertices, 1.1, (0.0, turn, 0.2), -3.0)
        )
    result = fusion.result()
    torch.testing.assert_close(result.joints, joints, rtol=0, atol=1e-12)
    torch.testing.assert_close(result.vertices, vertices, rtol=0, atol=1e-12)


def test_the_reference_counts_as_much_as_a_view(hand):
    """Two views that are aligned already: the mean of three."""
    joints, vertices = hand
    centred = joints - joints.mean(dim=1, keepdim=True)
    fusion = ViewFusion(centred, vertices)
    # Along the vector from the centre: alignment undoes the scale and leaves the reference.
    fusion.add(2.0 * centred, vertices)
    bent = centred.clone()
    bent[:, 0] *= 1.2
    fusion.add(bent, vertices)
    alone = ViewFusion(centred, vertices)
    alone.add(bent, vertices)
    aligned_bent = 2.0 * alone.result().joints - centred
    expected = (2.0 * centred + aligned_bent) / 3.0
    torch.testing.assert_close(fusion.result().joints, expected, rtol=0, atol=1e-12)
    assert fusion.num_views == 2


def test_samples_do_not_mix(hand):
    joints, vertices = hand
    noise = 0.05 * torch.rand(
        joints.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    both = ViewFusion(joints, vertices)
    both.add(joints + noise, vertices)
    second = ViewFusion(joints[1:], vertices[1:])
    second.add(joints[1:] + noise[1:], vertices[1:])
    torch.testing.assert_close(both.result().joints[1:], second.result().joints)


def test_float32_predictions_are_summed_in_float64(hand):
    joints, vertices = (points.float() for points in hand)
    fusion = ViewFusion(joints, vertices)
    for _ in range(50):
        fusion.add(joints, vertices)
    result = fusion.result()
    assert result.joints.dtype == torch.float64
    torch.testing.assert_close(result.joints, joints.double(), rtol=0, atol=1e-12)


def test_what_was_given_stays_as_it_was(hand):
    joints, vertices = hand
    before = joints.clone(), vertices.clone()
    fusion = ViewFusion(joints, vertices)
    fusion.add(2.0 * joints, 0.5 * vertices)
    assert torch.equal(joints, before[0])
    assert torch.equal(vertices, before[1])
    first = fusion.result()
    fusion.add(joints + 0.1 * joints.roll(1, dims=1), vertices)
    assert not torch.equal(first.joints, fusion.result().joints)


def test_another_shape_is_refused(hand):
    joints, vertices = hand
    with pytest.raises(ValueError, match="one shape"):
        ViewFusion(joints, vertices).add(joints[:, :20], vertices)


def test_views_and_names():
    views = metro_views()
    assert len(views) == len(set(views)) == 95
    assert view_file_name(View(0.7, -90), epoch=12) == "ckpt12-sc07_rot-90-pred.zip"
    assert view_file_name(View(1.1, 0)) == "ckpt200-sc11_rot0-pred.zip"
    assert fused_file_name(7) == "ckpt7-multisc-pred.zip"
