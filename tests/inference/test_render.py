import numpy as np
import pytest

from metro_ray.geometry.boxes import Window
from metro_ray.inference.render import draw_joints, overlay, overlay_people, side_view
from metro_ray.inference.result import close_up


def _inside(ball):
    x, y = np.meshgrid(np.arange(100), np.arange(100))
    return np.hypot(x - 49.5, y - 49.5)


def test_the_overlay_covers_the_mesh_and_nothing_else(ball, photo):
    drawn = overlay(photo, ball, opacity=1.0)
    radius = _inside(ball)
    assert np.array_equal(drawn[radius > 32], photo[radius > 32])
    covered = (drawn != photo).any(axis=2)[radius < 28]
    assert covered.mean() > 0.99


def test_opacity_mixes_mesh_and_photo(ball, photo):
    solid = overlay(photo, ball, opacity=1.0).astype(float)
    half = overlay(photo, ball, opacity=0.5).astype(float)
    assert np.abs(half - (solid + photo) / 2)[_inside(ball) < 28].max() <= 1.0
    assert np.array_equal(overlay(photo, ball, opacity=0.0), photo)


def test_the_light_comes_from_above(ball):
    drawn = overlay(np.zeros((100, 100, 3), np.uint8), ball, opacity=1.0).astype(float)
    assert drawn[30, 40].sum() > drawn[70, 55].sum() + 60


def test_a_mesh_outside_the_photo_draws_nothing(ball, photo):
    away = ball._replace(vertices_px=ball.vertices_px + np.float32([500, 0, 0]))
    assert np.array_equal(overlay(photo, away), photo)


def test_a_mesh_half_outside_is_drawn_half(ball, photo):
    moved = ball._replace(vertices_px=ball.vertices_px - np.float32([49.5, 0, 0]))
    drawn = overlay(photo, moved, opacity=1.0)
    assert (drawn[45:55, :20] != photo[45:55, :20]).any(axis=2).all()
    assert np.array_equal(drawn[:, 35:], photo[:, 35:])


def test_of_two_people_the_nearer_one_is_in_front(ball, photo):
    alone = [overlay_people(photo, [ball], [2.0], colors=[n], opacity=1.0) for n in (0, 1)]
    for depths, front in (([2.0, 3.0], 0), ([3.0, 2.0], 1), ([None, 3.0], 1)):
        drawn = overlay_people(photo, [ball, ball], depths, opacity=1.0)
        inside = _inside(ball) < 26
        np.testing.assert_array_equal(drawn[inside], alone[front][inside])
    assert np.abs(alone[0].astype(int) - alone[1])[_inside(ball) < 26].mean() > 20


def test_nobody_leaves_the_picture_as_it_is(photo):
    assert np.array_equal(overlay_people(photo, [], []), photo)


def test_the_side_view_looks_from_the_right(ball):
    """A mesh that reaches far away from the camera reaches to the right in the side view."""
    vertices = ball.vertices.copy()
    vertices[vertices[:, 2] > 0.25, 2] = 1.0  # a spike away from the camera
    view = side_view(ball._replace(vertices=vertices), 120).astype(int)
    mesh = np.abs(view - view[:, :1]).sum(axis=2) > 60
    columns = np.flatnonzero(mesh.any(axis=0))
    thick = mesh.sum(axis=0)
    assert columns[0] > 3
    assert columns[-1] < 117
    assert thick[columns[-8:]].max() < 0.7 * thick[columns[8:24]].max()


def test_joints_are_drawn_where_they_are(ball, photo):
    drawn = draw_joints(photo, ball)
    for x, y in np.rint(ball.joints_px[:, :2]).astype(int):
        assert (drawn[y, x].astype(int) != photo[y, x]).any()
    assert np.array_equal(drawn[:10], photo[:10])


def _spot(image):
    y, x = np.nonzero(image[..., 0].astype(int) - image[..., 1] > 128)
    return x.mean(), y.mean()


@pytest.mark.parametrize("size", [300, 37])
@pytest.mark.parametrize("window", [Window(20, 30, 80, 90), Window(-20, -20, 60, 60)])
def test_a_close_up_moves_picture_and_result_alike(ball, size, window):
    image = np.zeros((100, 100, 3), np.uint8)
    image[40:46, 50:56, 0] = 255
    center = np.float32([52.5, 42.5, 1.0])
    result = ball._replace(window=window, vertices_px=np.tile(center, (len(ball.vertices_px), 1)))
    cut, inside = close_up(image, result, size)
    assert cut.shape == (size, size, 3)
    x, y = _spot(cut)
    np.testing.assert_allclose((x, y), inside.vertices_px[0, :2], atol=0.75)
    zoom = size / (max(window.width, window.height) * 1.2)
    assert inside.vertices_px[0, 2] == pytest.approx(zoom, rel=0.05)


def test_a_mesh_without_a_surface_is_drawn_as_dots(ball, photo):
    """An untrained network's triangles run across the whole body; casting them would take minutes."""
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(len(ball.vertices_px))
    tangled = ball._replace(vertices_px=ball.vertices_px[shuffled])
    drawn = overlay(photo, tangled, opacity=1.0)
    changed = (drawn != photo).any(axis=2)
    assert 0 < changed.sum() <= len(shuffled)
    assert not changed[_inside(ball) > 32].any()
