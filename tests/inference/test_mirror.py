"""Left hands: mirrored in, mirrored back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from side_sensitive import SideSensitive
from toys import TOY_HAND, ToyBody

from metro_ray.geometry.boxes import Box, box_from_rectangle
from metro_ray.inference import Predictor
from metro_ray.inference.cutouts import mirror_box
from metro_ray.inference.result import mirrored

PREDICTOR = Predictor(SideSensitive(), ToyBody(TOY_HAND))
FIELDS = ("vertices", "joints", "camera", "window", "vertices_px", "joints_px", "faces")


def _picture(width=130, height=90, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@given(
    width=st.integers(40, 200),
    height=st.integers(40, 200),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    side=st.floats(8.0, 150.0),
)
@settings(max_examples=40, deadline=None)
def test_a_left_hand_is_the_mirror_image_of_a_right_hand(width, height, x, y, side):
    picture, box = _picture(width, height), Box((x * width, y * height), side / 200)
    (left,) = PREDICTOR.predict([picture], [box], hands=["left"])
    (right,) = PREDICTOR.predict([picture[:, ::-1]], [mirror_box(box, width)], hands=["right"])
    back = mirrored(right, width)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(left, name), getattr(back, name), err_msg=name)


def test_so_it_is_without_a_box():
    picture = _picture()
    (left,) = PREDICTOR.predict([picture], hands=["left"])
    (right,) = PREDICTOR.predict([picture[:, ::-1]])
    np.testing.assert_array_equal(left.vertices, right.vertices * np.float32([-1, 1, 1]))
    np.testing.assert_allclose(left.joints_px[:, 0], 129 - right.joints_px[:, 0], atol=1e-3)
    np.testing.assert_allclose(left.joints_px[:, 1], right.joints_px[:, 1], atol=1e-3)


def test_left_and_right_differ_and_a_right_hand_is_what_is_assumed():
    picture, box = _picture(), box_from_rectangle(20, 10, 50, 60)
    left, right, assumed = PREDICTOR.predict(
        [picture] * 3, [box] * 3, hands=["left", "right", None]
    )
    assert np.abs(left.vertices - right.vertices).max() > 0.01
    np.testing.assert_array_equal(right.vertices, assumed.vertices)


def test_normals_of_left_hands_still_point_outwards(ball):
    def volume(result):
        a, b, c = result.vertices[result.faces].transpose(1, 0, 2).astype(np.float64)
        return float((np.cross(a, b) * c).sum() / 6)

    assert volume(ball) > 0.1
    assert volume(mirrored(ball, 100)) == pytest.approx(volume(ball))


def test_mirroring_twice_gives_the_result_back(ball):
    twice = mirrored(mirrored(ball, 100), 100)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(twice, name), getattr(ball, name), err_msg=name)


def test_all_left_hands_share_their_faces():
    picture = _picture()
    first, second = PREDICTOR.predict([picture, picture], hands=["left", "left"])
    assert first.faces is second.faces
