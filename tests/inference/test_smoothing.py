import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.errors import DataError
from metro_ray.geometry.boxes import Window
from metro_ray.inference.result import place_in_picture
from metro_ray.inference.smoothing import OneEuro, OneEuroSettings, Smoother, Tracks

FPS = 30.0
TIMES = np.arange(240) / FPS


def _filtered(signal, **changes):
    one_euro = OneEuro(OneEuroSettings(**changes))
    return np.array([one_euro(np.atleast_1d(v), t) for v, t in zip(signal, TIMES, strict=True)])[
        :, 0
    ]


@given(value=st.floats(-1e3, 1e3), cutoff=st.floats(0.01, 50), beta=st.floats(0, 50))
@settings(max_examples=50, deadline=None)
def test_what_does_not_move_is_not_changed(value, cutoff, beta):
    filtered = _filtered(np.full(240, value), min_cutoff_hz=cutoff, beta=beta)
    np.testing.assert_array_equal(filtered, value)


def test_a_hand_that_waves_and_rests_trembles_less_and_hardly_lags():
    """4 s of waving with 0.3 m at 0.5 Hz between rests, 5 mm of noise, metres."""
    waving = (TIMES > 2) & (TIMES < 6)
    truth = np.where(waving, 0.3 * np.sin(np.pi * (TIMES - 2)), 0.0)
    noisy = truth + np.random.default_rng(0).normal(0, 0.005, len(truth))
    filtered = _filtered(noisy)
    for rest in (slice(0, 58), slice(200, 240)):
        assert np.std(np.diff(filtered[rest])) < 0.35 * np.std(np.diff(noisy[rest]))
        assert np.std(filtered[rest]) < 0.7 * np.std(noisy[rest])

    def mismatch(lag):
        return np.square(filtered[60 + lag : 180 + lag] - truth[60:180]).mean()

    lag = min(range(12), key=mismatch)
    assert lag <= 2  # frames of 33 ms


def test_it_is_the_filter_of_the_paper():
    """Two steps of its algorithm 1, by hand."""
    one_euro = OneEuro(OneEuroSettings(min_cutoff_hz=2.0, beta=0.5, speed_cutoff_hz=1.0))

    def alpha(cutoff, period):
        tau = 1 / (2 * np.pi * cutoff)
        return 1 / (1 + tau / period)

    assert one_euro(np.array([1.0]), 0.0) == 1.0
    speed = alpha(1.0, 0.1) * (2.0 - 1.0) / 0.1
    weight = alpha(2.0 + 0.5 * speed, 0.1)
    value = weight * 2.0 + (1 - weight) * 1.0
    np.testing.assert_allclose(one_euro(np.array([2.0]), 0.1), value)
    new_speed = alpha(1.0, 0.2) * (1.5 - value) / 0.2 + (1 - alpha(1.0, 0.2)) * speed
    weight = alpha(2.0 + 0.5 * abs(new_speed), 0.2)
    expected = weight * 1.5 + (1 - weight) * value
    np.testing.assert_allclose(one_euro(np.array([1.5]), 0.3), expected)


def test_faster_means_less_lag():
    ramp = TIMES * 1.0
    slow, fast = _filtered(ramp, beta=0.0), _filtered(ramp, beta=5.0)
    assert ramp[-1] - slow[-1] > 0.1
    assert ramp[-1] - fast[-1] < 0.04


@pytest.mark.parametrize(
    "changes", [{"min_cutoff_hz": 0.0}, {"beta": -1.0}, {"min_cutoff_hz": float("nan")}]
)
def test_what_is_no_filter_is_refused(changes):
    with pytest.raises(DataError, match="cutoffs above 0 Hz"):
        OneEuroSettings(**changes)


def _at(x, y, side=100):
    return Window(x, y, x + side, y + side)


def test_people_keep_their_numbers_though_their_boxes_change_places():
    tracks = Tracks()
    assert tracks.assign([_at(0, 0), _at(300, 0)], [None, None], 0.0) == [0, 1]
    assert tracks.assign([_at(290, 5), _at(10, 5)], [None, None], 0.1) == [1, 0]
    assert tracks.assign([_at(20, 5)], [None], 0.2) == [0]
    assert tracks.assign([_at(20, 5), _at(285, 9)], [None, None], 0.3) == [0, 1]


def test_who_was_away_for_long_or_is_elsewhere_is_new():
    tracks = Tracks()
    tracks.assign([_at(0, 0)], [None], 0.0)
    assert tracks.assign([_at(80, 80)], [None], 0.1) == [1]
    assert tracks.assign([_at(80, 80)], [None], 0.7) == [2]
    assert tracks.active == {2}


def test_the_best_overlap_is_taken_first_and_ties_go_by_order():
    tracks = Tracks()
    tracks.assign([_at(0, 0), _at(20, 0)], [None, None], 0.0)
    assert tracks.assign([_at(20, 0), _at(40, 0)], [None, None], 0.1) == [1, 0]
    tracks = Tracks()
    tracks.assign([_at(0, 0), _at(0, 0)], [None, None], 0.0)
    assert tracks.assign([_at(0, 0), _at(0, 0)], [None, None], 0.1) == [0, 1]


def test_a_left_and_a_right_hand_are_never_the_same():
    tracks = Tracks()
    assert tracks.assign([_at(0, 0), _at(10, 0)], ["left", "right"], 0.0) == [0, 1]
    assert tracks.assign([_at(0, 0), _at(10, 0)], ["right", "left"], 0.1) == [1, 0]


def _seen_through(ball, window, scale=2.0, root_px=(50.0, 50.0)):
    """The ball with its root at a pixel of the picture, as the crop of this window shows it."""
    half = window.width / 2
    s = scale * 50 / half  # the size in the picture does not depend on the window
    shift = (np.array(root_px) - [window.left + half, window.top + half]) / (half * s)
    camera = np.array([s, *shift], np.float32)
    return ball._replace(
        camera=camera,
        window=window,
        vertices_px=place_in_picture(ball.vertices, camera, window),
        joints_px=place_in_picture(ball.joints, camera, window),
    )


def test_boxes_that_jump_do_not_move_who_stands_still(ball):
    smoother = Smoother(OneEuroSettings())
    rng = np.random.default_rng(0)
    for frame in range(12):
        x, y = rng.integers(-20, 20, 2).tolist()
        result = _seen_through(ball, _at(x, y, 100 + frame))
        steady = smoother(result, 0, frame / FPS)
        assert steady.window == result.window
        np.testing.assert_allclose(steady.vertices_px, ball.vertices_px, atol=1.1)
        np.testing.assert_allclose(steady.vertices_px, result.vertices_px, atol=1e-3)
        np.testing.assert_array_equal(steady.vertices, ball.vertices)


def test_trembling_meshes_and_places_are_steadied_together(ball):
    smoother, rng = Smoother(OneEuroSettings()), np.random.default_rng(0)
    raw, steady = [], []
    for frame in range(60):
        noisy = ball._replace(
            vertices=ball.vertices + rng.normal(0, 0.004, ball.vertices.shape).astype(np.float32)
        )
        seen = _seen_through(noisy, _at(0, 0), root_px=50 + rng.normal(0, 0.8, 2))
        raw.append(seen.vertices_px)
        steady.append(smoother(seen, 3, frame / FPS).vertices_px)
    trembling = [np.std(np.diff(np.stack(path)[20:], axis=0)) for path in (raw, steady)]
    assert trembling[1] < 0.35 * trembling[0]


def test_without_a_camera_nothing_is_smoothed(ball):
    behind = ball._replace(camera=np.float32([-0.1, 0, 0]))
    assert Smoother(OneEuroSettings())(behind, 0, 0.0) is behind


def test_everyone_has_a_filter_of_their_own(ball):
    smoother = Smoother(OneEuroSettings())
    smoother(ball, 0, 0.0)
    moved = ball._replace(vertices=ball.vertices + np.float32(0.2))
    np.testing.assert_allclose(smoother(moved, 1, 0.0).vertices, moved.vertices, atol=1e-7)
    smoother.forget({1})
    np.testing.assert_allclose(smoother(moved, 0, 0.1).vertices, moved.vertices, atol=1e-7)
