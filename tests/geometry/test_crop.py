"""Boxes and crops: definitions, borders, and what the fast crop changes. METRO's numbers: tests/goldens."""

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.errors import DataError
from metro_ray.geometry.boxes import (
    Window,
    box_from_rectangle,
    crop_coordinates,
    crop_window,
    point_matrix,
    transform_points,
)
from metro_ray.geometry.crop import crop_fast, crop_metro

CROPS = {"metro": crop_metro, "fast": crop_fast}
both = pytest.mark.parametrize("crop", CROPS.values(), ids=CROPS)


def smooth_image(height=240, width=320, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def dot_image(x, y, height=240, width=320):
    """A blurred dot around a point, to find it again in a crop."""
    rows, columns = np.mgrid[:height, :width]
    dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 4.0**2))
    return np.rint(dot).astype(np.uint8)[:, :, None].repeat(3, axis=2)


def centroid(picture):
    weights = picture[:, :, 0].astype(np.float64)
    rows, columns = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()


# ------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize(
    ("factor", "left", "right"),
    [(0.7, 48, 175), (0.8, 39, 184), (0.9, 30, 193), (1.0, 22, 202), (1.1, 12, 211)],
)
def test_the_windows_of_the_freihand_evaluation(factor, left, right):
    """Float dust makes four of the five windows one pixel larger than the exact ones."""
    assert crop_window((112, 112), factor * 0.9, 224) == Window(left, left, right, right)


def test_a_window_keeps_its_size_about_its_centre():
    window = crop_window((500.0, 300.0), 2.0, 224)
    assert abs(window.width - 400) <= 1
    assert abs((window.left + window.right) / 2 - 500) <= 1
    assert abs((window.top + window.bottom) / 2 - 300) <= 1


def test_box_from_rectangle():
    box = box_from_rectangle(10, 20, 100, 50)
    assert box.center == (60.0, 45.0)
    assert box.scale == pytest.approx(1.2 * 100 / 200)


@pytest.mark.parametrize(
    ("center", "scale"),
    [
        ((10, 10), 0.0),
        ((10, 10), -1.0),
        ((10, 10), float("nan")),
        ((float("inf"), 10), 1.0),
        ((10, 10), 1e6),
        ((1e12, 10), 1.0),
        ((320.25, 240.25), 0.002),
    ],
)
def test_boxes_without_a_size_are_refused(center, scale):
    with pytest.raises(DataError, match=r"box .*(expected|must)"):
        crop_window(center, scale, 224)


# --------------------------------------------------------------------------------------- points


def test_points_are_truncated_towards_zero_and_moved_by_one():
    """METRO's rule: -0.4 and +0.4 both land on 1."""
    points = np.array([[0.6, 1.4], [-1.5, 3.0]])
    np.testing.assert_array_equal(transform_points(points, np.eye(3)), [[1, 1], [-1, 3]])


@pytest.mark.parametrize("rotation", [0.0, 25.0, -80.0])
@both
def test_exact_coordinates_show_where_the_picture_is(crop, rotation):
    for x, y in ((150.0, 100.0), (171.0, 133.0), (140.0, 140.0)):
        picture = crop(dot_image(x, y), (160.3, 120.7), 0.8, 224, rotation)
        window = crop_window((160.3, 120.7), 0.8, 224)
        exact = crop_coordinates(np.array([[x, y]]), window, 224, rotation)[0]
        found = 2 * (centroid(picture) + 0.5) / 224 - 1
        np.testing.assert_allclose(found, exact, atol=0.3 * 2 / 224)


@pytest.mark.parametrize("rotation", [0.0, 25.0])
def test_metro_coordinates_are_within_two_pixels_of_the_exact_ones(rotation):
    points = np.random.default_rng(0).uniform(60, 260, (50, 2))
    matrix = point_matrix((160.3, 120.7), 0.8, (224, 224), rotation)
    metro = 2 * transform_points(points + 1, matrix) / 224 - 1
    window = crop_window((160.3, 120.7), 0.8, 224)
    exact = crop_coordinates(points, window, 224, rotation)
    assert np.abs(metro - exact).max() < 2.5 * 2 / 224


# ---------------------------------------------------------------------------------------- crops


@both
def test_a_box_of_the_crops_size_is_a_copy(crop):
    image = smooth_image()
    window = crop_window((160.25, 120.25), 1.0, 200)
    picture = crop(image, (160.25, 120.25), 1.0, 200)
    assert (window.width, window.height) == (200, 200)
    np.testing.assert_array_equal(
        picture, image[window.top : window.bottom, window.left : window.right]
    )


@both
def test_black_outside_the_image(crop):
    image = np.full((100, 100, 3), 200, np.uint8)
    picture = crop(image, (0, 50), 0.5, 100)
    assert not picture[:, :48].any()
    assert (picture[:, 52:] == 200).all()


@both
@pytest.mark.parametrize("rotation", [0.0, 30.0])
@pytest.mark.parametrize("center", [(-150, 120), (480, 120), (160, -90), (160, 350), (-5000, 120)])
def test_boxes_beside_the_image_are_black(crop, center, rotation):
    """Also near ones, where METRO raises ValueError."""
    picture = crop(smooth_image(), center, 0.6, 64, rotation)
    assert picture.shape == (64, 64, 3)
    assert not picture.any()


@both
def test_tiny_boxes_can_be_rotated(crop):
    """A box of 4 px has no padding to remove: METRO fails here."""
    picture = crop(np.full((100, 100, 3), 90, np.uint8), (50.5, 50.5), 0.02, 64, 10.0)
    assert picture.shape == (64, 64, 3)
    assert picture.mean() > 60


@both
def test_rotation_turns_counter_clockwise(crop):
    """A dot right of the centre moves up."""
    picture = crop(dot_image(190, 120), (160, 120), 0.8, 100, 90.0)
    x, y = centroid(picture)
    assert abs(x - 50) < 2
    assert abs(y - (50 - 30 * 100 / 160)) < 2


@both
def test_channels_are_treated_alike(crop):
    image = smooth_image()
    np.testing.assert_array_equal(
        crop(image[:, :, ::-1].copy(), (150, 110), 0.9, 64, 20.0),
        crop(image, (150, 110), 0.9, 64, 20.0)[:, :, ::-1],
    )


# ----------------------------------------------------------------------------------------- fast


@given(st.floats(-50, 370), st.floats(-50, 290), st.floats(0.1, 3.0), st.sampled_from([0.0, 180.0]))
@settings(max_examples=60, deadline=None)
def test_fast_differs_by_rounding_only_without_rotation(x, y, scale, rotation):
    if rotation:
        x, y, scale = 160.0, 120.0, 0.6  # half a turn about a pixel grid's centre
    image = smooth_image()
    exact = crop_metro(image, (x, y), scale, 64, rotation)
    assert np.abs(crop_fast(image, (x, y), scale, 64, rotation) - exact).max() <= 1.01


@given(
    st.floats(-50, 370),
    st.floats(-50, 290),
    st.floats(0.1, 2.0),
    st.floats(-180, 180).filter(bool),
)
@settings(max_examples=60, deadline=None)
def test_fast_stays_close_with_rotation(x, y, scale, rotation):
    """Exact coordinates instead of 1/32 px, and two roundings to whole grey levels."""
    image = smooth_image()
    exact = crop_metro(image, (x, y), scale, 64, rotation)
    difference = np.abs(crop_fast(image, (x, y), scale, 64, rotation) - exact)
    inside = cv2.erode((exact.min(axis=2) > 3).astype(np.uint8), np.ones((9, 9)))
    assert difference.mean() < 0.7
    assert difference[inside == 1].max(initial=0) <= 6


def best_time(crop, image, rotation):
    times = []
    for _ in range(7):
        start = time.perf_counter()
        crop(image, (500.3, 498.7), 3.2, 224, rotation)
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize("rotation", [0.0, 20.0])
def test_fast_is_at_least_twice_as_fast_on_a_large_picture(rotation):
    image = smooth_image(1002, 1000)
    assert 2 * best_time(crop_fast, image, rotation) < best_time(crop_metro, image, rotation)
