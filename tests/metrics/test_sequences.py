import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metro_ray.metrics.sequences import (
    Frames,
    acceleration_errors,
    frame_name,
    join_frames,
    person_of,
)


def _frames(keys, residuals=None, betas=None):
    names = [frame_name(key) for key in keys]
    count = len(keys)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(count, 5, 3)) if residuals is None else residuals
    people = np.zeros((count, 2)) if betas is None else np.array(betas)
    return Frames(np.arange(count), tuple(names), person_of(people), np.asarray(points, np.float32))


@pytest.mark.parametrize(
    "key",
    ["image_00001.jpg", "a/00001.jpg", "a/b.jpg", "synth_body/0/000012.jpg", "a/image_00001", ""],
)
def test_unrelated_pictures_are_no_frames(key):
    assert frame_name(key) is None


def test_3dpw_keys_are_frames():
    assert frame_name("downtown_walking_00/image_00123.jpg") == ("downtown_walking_00/image_", 123)


def test_what_moves_evenly_past_the_truth_has_no_acceleration_error():
    drift = np.arange(6)[:, None, None] * np.array([0.01, -0.02, 0.03])
    frames = _frames([f"a/image_{n}.jpg" for n in range(6)], np.broadcast_to(drift, (6, 5, 3)))
    found = acceleration_errors(frames)
    assert found.row_id.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(found.errors, 0.0, atol=1e-7)


def test_one_jump_is_felt_by_its_neighbours():
    """A residual of 1 mm in one frame: second differences 1, -2, 1 mm."""
    residuals = np.zeros((5, 4, 3))
    residuals[2, :, 0] = 0.001
    found = acceleration_errors(_frames([f"a/image_{n}.jpg" for n in range(5)], residuals))
    np.testing.assert_allclose(found.errors, [0.001, 0.002, 0.001], rtol=1e-6)


def test_gaps_and_other_sequences_are_not_crossed():
    keys = [f"a/image_{n}.jpg" for n in (1, 2, 4, 5)] + [f"b/image_{n}.jpg" for n in (6, 7)]
    assert len(acceleration_errors(_frames(keys)).row_id) == 0


def test_two_people_are_told_apart_by_their_shape():
    keys = [f"a/image_{n // 2}.jpg" for n in range(8)]
    betas = [[0.1, 0.2], [0.3, 0.4]] * 4
    frames = _frames(keys, betas=betas)
    found = acceleration_errors(frames)
    assert found.row_id.tolist() == [2, 3, 4, 5]
    expected = frames.residuals[0] - 2 * frames.residuals[2] + frames.residuals[4]
    assert found.errors[0] == pytest.approx(np.linalg.norm(expected, axis=1).mean(), rel=1e-5)


def test_people_that_cannot_be_told_apart_are_left_out():
    keys = [f"a/image_{n}.jpg" for n in (0, 1, 2, 3, 4, 4, 5, 6, 7)]
    assert acceleration_errors(_frames(keys)).row_id.tolist() == [1, 2, 7]


@given(st.permutations(range(9)), st.integers(0, 9))
def test_order_and_parts_do_not_matter(order, cut):
    whole = _frames([f"a/image_{n}.jpg" for n in range(9)])
    rows = list(order)

    def part(chosen):
        return Frames(
            whole.row_id[chosen],
            tuple(whole.names[i] for i in chosen),
            whole.person[chosen],
            whole.residuals[chosen],
        )

    joined = join_frames([part(rows[:cut]), part(rows[cut:])], 5)
    expected, found = acceleration_errors(whole), acceleration_errors(joined)
    assert found.row_id.tolist() == expected.row_id.tolist()
    np.testing.assert_array_equal(found.errors, expected.errors)
