"""Depth is that of the mesh, in metres, and the nearer person is seen."""

import numpy as np
import pytest

from metro_ray.errors import DataError
from metro_ray.inference.depth import depth_map


def test_a_ball_is_nearest_in_its_middle(ball):
    depth, owner = depth_map([ball], [3.0], 100, 100)
    assert depth[50, 50] == pytest.approx(2.7, abs=0.01)
    assert depth.min() == pytest.approx(2.7, abs=0.01)
    assert np.isinf(depth[2, 2])
    assert owner[50, 50] == 0
    assert owner[2, 2] == -1
    assert (owner >= 0).sum() == pytest.approx(np.pi * 30**2, rel=0.03)


def test_the_nearer_person_is_seen(ball):
    _, owner = depth_map([ball, ball], [3.0, 2.0], 100, 100)
    assert owner[50, 50] == 1
    _, owner = depth_map([ball, ball], [2.0, 3.0], 100, 100)
    assert owner[50, 50] == 0


def test_people_beside_the_picture_have_no_depth(ball):
    away = ball._replace(vertices_px=ball.vertices_px + np.array([500, 0, 0], np.float32))
    _, owner = depth_map([away], [3.0], 100, 100)
    assert (owner == -1).all()


def test_a_mesh_without_a_surface_is_refused(ball):
    shuffled = np.random.default_rng(0).permutation(len(ball.vertices))
    tangled = ball._replace(vertices_px=ball.vertices_px[shuffled])
    with pytest.raises(DataError, match="no surface"):
        depth_map([tangled], [3.0], 100, 100)
