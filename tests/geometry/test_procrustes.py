import pytest
import roma
import torch

from metro_ray.geometry.procrustes import fit_similarity, similarity_align


def points(batch=4, count=14, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, count, 3, generator=generator, dtype=torch.float64)


def test_recovers_a_known_similarity():
    source = points()
    rotation = roma.random_rotmat(4, dtype=torch.float64)
    scale = torch.tensor([0.5, 1.0, 2.0, 1000.0], dtype=torch.float64)
    shift = points(1, 4, seed=1)[0]
    target = scale[:, None, None] * source @ rotation.transpose(1, 2) + shift[:, None]
    fit = fit_similarity(source, target)
    torch.testing.assert_close(fit.scale, scale)
    torch.testing.assert_close(fit.rotation, rotation)
    torch.testing.assert_close(fit.translation, shift)
    torch.testing.assert_close(similarity_align(source, target), target)


def test_never_reflects():
    source = points()
    target = source * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    fit = fit_similarity(source, target)
    torch.testing.assert_close(torch.linalg.det(fit.rotation), torch.ones(4, dtype=torch.float64))
    assert (similarity_align(source, target) - target).norm(dim=-1).mean() > 0.1


def test_no_other_similarity_is_closer():
    source, target = points(seed=2), points(seed=3)
    best = (similarity_align(source, target) - target).square().sum()
    fit = fit_similarity(source, target)
    generator = torch.Generator().manual_seed(4)
    for _ in range(20):
        nudge = 0.05 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
        other = fit._replace(rotation=roma.rotvec_to_rotmat(nudge) @ fit.rotation)
        centred = other.apply(source) - other.apply(source).mean(1, keepdim=True)
        moved = centred + target.mean(1, keepdim=True)
        assert (moved - target).square().sum() > best
    grown = fit._replace(scale=fit.scale * 1.02)
    moved = grown.apply(source)
    moved = moved - moved.mean(1, keepdim=True) + target.mean(1, keepdim=True)
    assert (moved - target).square().sum() > best


def test_float32_is_solved_in_float64():
    source, target = points(seed=5), points(seed=6)
    aligned = similarity_align(source.float(), target.float())
    assert aligned.dtype == torch.float32
    exact = similarity_align(source.float().double(), target.float().double())
    torch.testing.assert_close(aligned, exact.float(), atol=0, rtol=0)


def test_target_at_one_point_takes_every_point_there():
    target = torch.full((1, 5, 3), 2.0, dtype=torch.float64)
    torch.testing.assert_close(similarity_align(points(1, 5), target), target)


def test_source_at_one_point_has_no_scale():
    assert similarity_align(torch.ones(1, 5, 3), torch.rand(1, 5, 3)).isnan().all()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (torch.zeros(1, 14, 3), torch.zeros(1, 13, 3)),
        (torch.zeros(14, 3), torch.zeros(14, 3)),
        (torch.zeros(1, 14, 3, dtype=torch.int64), torch.zeros(1, 14, 3, dtype=torch.int64)),
    ],
)
def test_refuses_other_inputs(source, target):
    with pytest.raises(ValueError, match="Procrustes needs"):
        similarity_align(source, target)
