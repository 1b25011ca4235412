"""The weak-perspective camera of 3D joints and pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.geometry.weak_camera import fit_weak_camera


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 1000), st.floats(-500, 500), st.floats(-500, 500))
def test_it_finds_the_camera_that_was_used(seed, scale, x, y):
    points = np.random.default_rng(seed).uniform(-1, 1, (14, 3))
    fit = fit_weak_camera(points, scale * points[:, :2] + (x, y))
    assert fit.scale == pytest.approx(scale)
    assert fit.shift == pytest.approx(np.array([x, y]), abs=1e-6)
    assert fit.relative_error == pytest.approx(0, abs=1e-9)
    assert fit.project(points)[:, :2] == pytest.approx(scale * points[:, :2] + (x, y), abs=1e-6)


def test_projecting_leaves_the_points_alone():
    points = np.random.default_rng(0).uniform(-1, 1, (14, 3))
    kept = points.copy()
    fit_weak_camera(points, points[:, :2]).project(points)
    assert np.array_equal(points, kept)


def test_points_turned_over_have_a_negative_scale():
    points = np.random.default_rng(0).uniform(-1, 1, (14, 3))
    assert fit_weak_camera(points, -50 * points[:, :2]).scale == pytest.approx(-50)


def test_the_error_is_that_of_the_pixels():
    points = np.array([[-1.0, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0]])
    pixels = 10 * points[:, :2]
    pixels[2:, 0] += 3.0  # two of four points, half of it each after the fit of the shift
    fit = fit_weak_camera(points, pixels)
    assert fit.error_px == pytest.approx(1.5)
    assert fit.relative_error == pytest.approx(1.5 / np.sqrt(100 + 1.5**2))


def test_points_behind_each_other_have_no_camera():
    fit = fit_weak_camera(np.zeros((5, 3)), np.random.default_rng(0).uniform(0, 9, (5, 2)))
    assert fit.scale == 0
    assert fit.relative_error == pytest.approx(1)
