import numpy as np
import pytest

from metro_ray.geometry import raycast


def _grid_mesh(rng, size, cells):
    """A square cut into a jittered grid of triangles that cover it without gaps."""
    ticks = np.linspace(-1.0, size, cells + 1)
    x, y = np.meshgrid(ticks, ticks)
    points = np.stack([x, y, rng.uniform(1, 2, x.shape)], axis=-1)
    points[1:-1, 1:-1, :2] += rng.uniform(-0.3, 0.3, (cells - 1, cells - 1, 2)) * size / cells
    index = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return points.reshape(-1, 3), faces


def test_known_triangle_covers_the_pixels_inside_it_and_its_edges():
    vertices = np.array([[1.0, 1.0, 5.0], [5.0, 1.0, 5.0], [1.0, 5.0, 5.0]])
    seen = raycast.render(vertices, np.array([[0, 1, 2]]), width=8, height=7)
    y, x = np.mgrid[:7, :8]
    inside = (x >= 1) & (y >= 1) & (x + y <= 6)
    assert np.array_equal(seen.face_index >= 0, inside)
    assert np.all(seen.depth[inside] == 5.0)
    assert np.all(np.isinf(seen.depth[~inside]))
    assert np.all(seen.bary[~inside] == 0)


def test_barycentric_weights_give_back_pixel_and_depth():
    rng = np.random.default_rng(0)
    vertices = rng.uniform(0, 40, (60, 3))
    faces = rng.permutation(60).reshape(20, 3)
    seen = raycast.render(vertices, faces, width=40, height=30)
    position = raycast.interpolate(seen, faces, vertices)
    mask = seen.face_index >= 0
    assert mask.any()
    y, x = np.nonzero(mask)
    np.testing.assert_allclose(position[mask], np.stack([x, y, seen.depth[mask]], 1), atol=1e-4)
    np.testing.assert_allclose(seen.bary[mask].sum(1), 1.0, atol=1e-6)
    assert seen.bary[mask].min() > -1e-6


def test_the_nearest_face_is_seen_whatever_the_order():
    near = np.array([[0.0, 0.0, 1.0], [9.0, 0.0, 1.0], [0.0, 9.0, 1.0]])
    far = near + np.array([0.0, 0.0, 3.0])
    vertices = np.concatenate([far, near])
    first = raycast.render(vertices, np.array([[0, 1, 2], [3, 4, 5]]), 10, 10)
    second = raycast.render(vertices, np.array([[3, 4, 5], [0, 1, 2]]), 10, 10)
    assert set(np.unique(first.face_index)) == {-1, 1}
    assert set(np.unique(second.face_index)) == {-1, 0}
    assert np.array_equal(first.depth, second.depth)


def test_crossing_faces_are_split_where_they_meet():
    vertices = np.array(
        [
            [0, 0, 0],
            [20, 0, 20],
            [20, 20, 20],
            [0, 20, 0],
            [0, 0, 20],
            [20, 0, 0],
            [20, 20, 0],
            [0, 20, 20],
        ],
        dtype=float,
    )
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    seen = raycast.render(vertices, faces, 21, 21)
    assert np.all(np.isin(seen.face_index[:, :10], [0, 1]))
    assert np.all(np.isin(seen.face_index[:, 11:], [2, 3]))


def test_of_two_faces_at_the_same_depth_the_first_is_seen():
    vertices = np.array([[0.0, 0.0, 2.0], [9.0, 0.0, 2.0], [0.0, 9.0, 2.0]])
    seen = raycast.render(vertices, np.array([[0, 1, 2], [0, 1, 2]]), 10, 10)
    assert set(np.unique(seen.face_index)) == {-1, 0}


@pytest.mark.parametrize("seed", range(5))
def test_a_closed_surface_has_no_holes(seed):
    vertices, faces = _grid_mesh(np.random.default_rng(seed), size=64, cells=23)
    assert np.all(raycast.render(vertices, faces, 64, 64).face_index >= 0)


def test_many_candidates_are_drawn_in_groups_with_the_same_picture(monkeypatch):
    vertices, faces = _grid_mesh(np.random.default_rng(3), size=64, cells=9)
    whole = raycast.render(vertices, faces, 64, 64)
    monkeypatch.setattr(raycast, "_GROUP_PIXELS", 100)
    pieces = raycast.render(vertices, faces, 64, 64)
    for expected, got in zip(whole, pieces):
        assert np.array_equal(expected, got)


def test_parts_outside_the_image_and_bad_vertices_are_left_out():
    vertices = np.array(
        [[-50, -50, 1], [60, -50, 1], [-50, 60, 1], [np.nan, 3, 1], [np.inf, 3, -np.inf]]
    )
    seen = raycast.render(vertices, np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]]), 6, 4)
    assert np.all(seen.face_index[:, :4] == 0)
    nothing = raycast.render(vertices + 500, np.array([[0, 1, 2]]), 6, 4)
    assert np.all(nothing.face_index == -1)


def test_culling_removes_faces_that_look_away():
    vertices = np.array([[0.0, 0.0, 2.0], [9.0, 0.0, 2.0], [0.0, 9.0, 2.0]])
    away, towards = np.array([[0, 1, 2]]), np.array([[0, 2, 1]])
    assert raycast.vertex_normals(vertices, away)[0, 2] == 1  # z points away from the viewer
    assert raycast.render(vertices, away, 10, 10, cull_backfaces=True).face_index.max() == -1
    assert raycast.render(vertices, towards, 10, 10, cull_backfaces=True).face_index.max() == 0


def test_normals_of_a_ball_point_outwards():
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(subdivisions=3)
    normals = raycast.vertex_normals(ball.vertices, ball.faces)
    np.testing.assert_allclose(normals, ball.vertices, atol=0.02)


def test_shading_follows_the_cosine_law():
    lights = raycast.Lights(np.array([[0, 0, -1.0]]), np.array([[1.0, 0.5, 0.0]]), np.full(3, 0.1))
    tilted = np.array([np.sin(np.pi / 3), 0, -np.cos(np.pi / 3)])
    normals = np.stack([np.array([0, 0, -1.0]), tilted, np.array([0, 0, 1.0])])
    got = raycast.shade(normals, np.array([0.5, 0.5, 1.0]), lights)
    np.testing.assert_allclose(got[0], [0.55, 0.3, 0.1], atol=1e-6)
    np.testing.assert_allclose(got[1], [0.30, 0.175, 0.1], atol=1e-6)
    np.testing.assert_allclose(got[2], [0.05, 0.05, 0.1], atol=1e-6)
    both = raycast.shade(normals, np.array([0.5, 0.5, 1.0]), lights, two_sided=True)
    np.testing.assert_allclose(both[2], both[0])


@pytest.mark.parametrize(
    ("vertices", "faces", "size", "words"),
    [
        (np.zeros((3, 2)), np.array([[0, 1, 2]]), 4, "vertices must have shape"),
        (np.zeros((3, 3)), np.array([[0.0, 1.0, 2.0]]), 4, "faces must be integers"),
        (np.zeros((3, 3)), np.array([[0, 1, 3]]), 4, "must index the 3 vertices, got 0 to 3"),
        (np.zeros((3, 3)), np.array([[0, 1, 2]]), 0, "at least one pixel"),
    ],
)
def test_what_cannot_be_drawn_is_refused(vertices, faces, size, words):
    with pytest.raises(ValueError, match=words):
        raycast.render(vertices, faces, size, size)
