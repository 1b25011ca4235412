import numpy as np
import pytest
import trimesh

from metro_ray.bodies.levels import VertexMap
from metro_ray.bodies.surface import closest_on_mesh, select_coarse


@pytest.fixture(scope="module")
def ball():
    mesh = trimesh.creation.icosphere(subdivisions=3)
    return np.array(mesh.vertices), np.array(mesh.faces)


def brute_force_distance(points, vertices, faces):
    triangles = np.repeat(vertices[faces][None], len(points), 0).reshape(-1, 3, 3)
    repeated = np.repeat(points, len(faces), 0)
    closest = trimesh.triangles.closest_point(triangles, repeated)
    return np.linalg.norm(closest - repeated, axis=1).reshape(len(points), -1).min(axis=1)


def test_closest_points_are_the_closest(ball):
    points = np.random.default_rng(0).normal(size=(30, 3)) * 1.1
    found = closest_on_mesh(points, *ball)
    np.testing.assert_allclose(found.distance, brute_force_distance(points, *ball), atol=1e-12)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0)
    assert found.weights.min() >= 0.0
    at = found.interpolate(ball[0])
    np.testing.assert_allclose(np.linalg.norm(at - points, axis=1), found.distance)


def test_a_vertex_is_its_own_closest_point(ball):
    vertices, faces = ball
    np.testing.assert_allclose(closest_on_mesh(vertices, vertices, faces).distance, 0, atol=1e-12)


def test_vertices_without_faces_are_ignored(ball):
    vertices, faces = ball
    more = np.concatenate([vertices, [[5.0, 0.0, 0.0]]])
    found = closest_on_mesh(np.array([[4.9, 0.0, 0.0]]), more, faces)
    assert found.corners.max() < len(vertices)


def test_coarse_selection_is_a_closed_surface(ball):
    vertices, faces = ball
    chosen = select_coarse(vertices, faces, 60)
    assert len(np.unique(chosen.vertices)) == 60
    coarse = trimesh.Trimesh(vertices[chosen.vertices], chosen.faces, process=False)
    assert coarse.is_watertight
    assert coarse.is_winding_consistent
    assert coarse.volume == pytest.approx(4 / 3 * np.pi, rel=0.2)


def test_vertex_map_as_matrix():
    step = VertexMap(np.array([[0, 2], [1, 1]]), np.array([[0.25, 0.75], [0.5, 0.5]]))
    np.testing.assert_allclose(step.to_matrix(4), [[0.25, 0, 0.75, 0], [0, 1, 0, 0]])
