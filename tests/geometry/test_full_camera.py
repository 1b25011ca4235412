"""The camera of the whole picture against the camera of the crop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.errors import DataError
from metro_ray.geometry.boxes import Window
from metro_ray.geometry.cameras import (
    Intrinsics,
    centered_intrinsics,
    diagonal_intrinsics,
    full_translation,
    project_full,
)
from metro_ray.inference.result import place_in_picture

WIDTH, HEIGHT = 1280, 720
POINTS = np.random.default_rng(0).uniform(-0.9, 0.9, (50, 3)).astype(np.float32)
CASES = {
    "left": st.integers(-300, 1200),
    "top": st.integers(-300, 700),
    "side": st.integers(40, 1200),
    "scale": st.floats(0.2, 3.0),
    "tx": st.floats(-0.5, 0.5),
    "ty": st.floats(-0.5, 0.5),
}


def _both(left, top, side, scale, tx, ty, intrinsics, points):
    camera = np.array([scale, tx, ty], np.float32)
    window = Window(left, top, left + side, top + side)
    in_crop = place_in_picture(points, camera, window)[:, :2]
    translation = full_translation(camera, window, intrinsics)
    return in_crop, project_full(points.astype(np.float64), translation, intrinsics), translation


@given(**CASES)
@settings(max_examples=200, deadline=None)
def test_in_the_roots_plane_both_cameras_agree(left, top, side, scale, tx, ty):
    flat = POINTS * np.float32([1, 1, 0])
    intrinsics = diagonal_intrinsics(WIDTH, HEIGHT)
    in_crop, in_full, _ = _both(left, top, side, scale, tx, ty, intrinsics, flat)
    np.testing.assert_allclose(in_full, in_crop, atol=0.01, rtol=1e-5)


@given(**CASES)
@settings(max_examples=200, deadline=None)
def test_far_cameras_agree_everywhere(left, top, side, scale, tx, ty):
    far = centered_intrinsics(1e8, WIDTH, HEIGHT)
    in_crop, in_full, _ = _both(left, top, side, scale, tx, ty, far, POINTS)
    np.testing.assert_allclose(in_full, in_crop, atol=0.02, rtol=1e-5)


@given(**CASES, focal=st.floats(500, 5000))
@settings(max_examples=200, deadline=None)
def test_near_cameras_differ_by_perspective_alone(left, top, side, scale, tx, ty, focal):
    """A point's distance from the principal point is magnified by root depth / its own depth."""
    intrinsics = centered_intrinsics(focal, WIDTH, HEIGHT)
    in_crop, in_full, root = _both(left, top, side, scale, tx, ty, intrinsics, POINTS)
    in_front = POINTS[:, 2] + root[2] > 0.1
    magnified = (root[2] / (root[2] + POINTS[:, 2:]))[in_front]
    axis = np.array(intrinsics.principal_point_px)
    expected = axis + (in_crop[in_front] - axis) * magnified
    np.testing.assert_allclose(in_full[in_front], expected, atol=0.1, rtol=1e-4)


def test_it_is_the_well_known_conversion():
    """z = 2 f / (b s); x = tx + 2 (c_x - w / 2) / (b s), with c the middle of a box of side b."""
    focal, side, scale, tx, ty = 1500.0, 300, 0.9, 0.1, -0.2
    window = Window(700, 200, 700 + side, 200 + side)
    root = full_translation(
        np.array([scale, tx, ty]), window, centered_intrinsics(focal, WIDTH, HEIGHT)
    )
    expected = [
        tx + 2 * (850 - WIDTH / 2) / (side * scale),
        ty + 2 * (350 - HEIGHT / 2) / (side * scale),
        2 * focal / (side * scale),
    ]
    np.testing.assert_allclose(root, expected, rtol=1e-12)


def test_windows_that_are_off_by_one_and_two_focal_lengths_keep_the_root_in_place():
    camera, window = np.array([0.9, 0.1, -0.2]), Window(100, 50, 227, 176)
    intrinsics = Intrinsics((900.0, 960.0), (640.0, 350.0))
    root = full_translation(camera, window, intrinsics)
    seen = project_full(np.zeros((1, 3)), root, intrinsics)
    expected = place_in_picture(np.zeros((1, 3), np.float32), camera.astype(np.float32), window)
    np.testing.assert_allclose(seen, expected[:, :2], atol=1e-4)


def test_the_assumed_focal_length_is_the_diagonal():
    assert diagonal_intrinsics(300, 400) == ((500.0, 500.0), (149.5, 199.5))


@pytest.mark.parametrize("scale", [0.0, -0.5, np.nan])
def test_a_camera_without_a_place_is_refused(scale):
    with pytest.raises(DataError, match="s must be above 0"):
        full_translation(np.array([scale, 0, 0]), Window(0, 0, 9, 9), diagonal_intrinsics(10, 10))
