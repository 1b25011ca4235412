import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metro_ray.evaluation.freihand import Hands, measure_samples, summarise
from metro_ray.metrics.pck import BODY_PCK, HAND_PCK, area_under, pck_curve

ERRORS = arrays(np.float64, (7, 3), elements=st.floats(0, 400, allow_nan=False))


@given(ERRORS)
def test_a_curve_rises_and_its_area_lies_within_it(errors):
    for rule in (BODY_PCK, HAND_PCK):
        curve = pck_curve(errors, rule)
        assert (np.diff(curve) >= 0).all()
        assert curve[0] - 1e-12 <= area_under(curve, rule) <= curve[-1] + 1e-12


def test_the_threshold_itself_counts_for_hands_only():
    errors = np.array([[0.0, 50.0, 150.0]])
    assert pck_curve(errors, BODY_PCK)[-1] == pytest.approx(2 / 3)
    assert pck_curve(errors, HAND_PCK)[-1] == pytest.approx(2 / 3)
    assert pck_curve(errors, BODY_PCK)[0] == 0.0
    assert pck_curve(errors, HAND_PCK)[0] == pytest.approx(1 / 3)


def test_mpi_inf_3dhps_area_is_the_mean_over_31_thresholds():
    curve = pck_curve(np.array([[72.0]]), BODY_PCK)
    assert len(curve) == 31
    assert area_under(curve, BODY_PCK) == pytest.approx(16 / 31)  # 75, 80, .. 150


def test_hands_have_freihands_own_area():
    rng = np.random.default_rng(3)
    truth = Hands(rng.uniform(-0.1, 0.1, (6, 21, 3)), rng.uniform(-0.1, 0.1, (6, 9, 3)))
    guess = Hands(truth.joints + rng.normal(0, 0.02, (6, 21, 3)), truth.vertices)
    official = summarise(measure_samples(truth, guess)).joints
    errors = 1000 * np.linalg.norm(guess.joints - truth.joints, axis=2)
    curve = pck_curve(errors, HAND_PCK)
    np.testing.assert_allclose(curve, official.pck, atol=1e-12)
    assert area_under(curve, HAND_PCK) == pytest.approx(official.auc, abs=1e-12)


def test_nothing_measured_is_not_a_number():
    assert math.isnan(area_under(pck_curve(np.zeros((0, 14)), BODY_PCK), BODY_PCK))
