"""FreiHAND's official scores (goldens g13_freihand.npz and .json)."""

import formulas
import numpy as np
import pytest
from scipy.spatial import KDTree

from metro_ray.evaluation.freihand import (
    Hands,
    align,
    f_scores,
    fit_alignment,
    measure_samples,
    move_with,
    summarise,
)
from metro_ray.evaluation.freihand_report import console_text, curves, scores_text

EXACT = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(scope="module")
def facts(data_goldens):
    return data_goldens.json("g13_freihand.json")


@pytest.fixture(scope="module")
def arrays(data_goldens):
    return data_goldens.npz("g13_freihand.npz")


@pytest.fixture(scope="module", params=["mano", "verts500"])
def case(request, data_goldens):
    """Name, ground truth, prediction, errors of every sample."""
    params = formulas.load_params(data_goldens.folder / "params.json")
    gt_xyz, gt_verts, xyz, verts = map(np.stack, formulas.g13_inputs(params, request.param))
    truth, prediction = Hands(gt_xyz, gt_verts), Hands(xyz, verts)
    return request.param, truth, prediction, list(measure_samples(truth, prediction))


def test_texts(case, facts):
    name, _, _, samples = case
    scores = summarise(samples)
    assert scores_text(scores) == facts[name]["scores_txt"]
    assert scores.figures() == pytest.approx(facts[name]["scores"], abs=1e-6)
    assert list(scores.figures()) == list(facts[name]["scores"])
    printed = [line for line in console_text(scores).split("\n") if line]
    assert printed == facts[name]["printed"][:-1]
    assert facts[name]["printed"][-1] == "Evaluation complete."


def test_full_precision(case, facts):
    name, _, _, samples = case
    scores = summarise(samples)
    points = {
        "xyz": scores.joints,
        "xyz_al": scores.joints_aligned,
        "mesh": scores.vertices,
        "mesh_al": scores.vertices_aligned,
    }
    expected = facts[name]["full_precision"]
    assert {key for key, one in points.items() if one} == set(expected)
    for key, figures in expected.items():
        ours = (points[key].mean_m, points[key].median_m, points[key].auc)
        theirs = (figures["mean_m"], figures["median_m"], figures["auc"])
        np.testing.assert_allclose(ours, theirs, **EXACT, err_msg=key)


def test_curves(case, arrays):
    name, _, _, samples = case
    for key, (centimetres, shares) in curves(summarise(samples)).items():
        np.testing.assert_allclose(centimetres, arrays[f"{name}_pck_{key}_thresh_cm"], **EXACT)
        np.testing.assert_allclose(shares, arrays[f"{name}_pck_{key}"], **EXACT)


def test_f_scores_of_every_sample(case, arrays):
    name, _, _, samples = case
    np.testing.assert_allclose([s.f_scores for s in samples], arrays[f"{name}_f_score"], **EXACT)
    np.testing.assert_allclose(
        [s.f_scores_aligned for s in samples], arrays[f"{name}_f_score_aligned"], **EXACT
    )


def test_alignment_of_every_sample(case, arrays):
    name, truth, prediction, samples = case
    found = [fit_alignment(*pair) for pair in zip(prediction.joints, truth.joints, strict=True)]
    joints = [align(*pair) for pair in zip(prediction.joints, found, strict=True)]
    np.testing.assert_allclose(joints, arrays["xyz_aligned"], **EXACT)
    np.testing.assert_allclose([s.joints for s in samples], arrays["xyz_error"], **EXACT)
    np.testing.assert_allclose(
        [s.joints_aligned for s in samples], arrays["xyz_aligned_error"], **EXACT
    )
    if name == "mano":
        own = [fit_alignment(*pair) for pair in zip(prediction.vertices, truth.vertices)]
        vertices = [align(*pair)[::10] for pair in zip(prediction.vertices, own)]
        np.testing.assert_allclose(vertices, arrays["verts_aligned_every10"], **EXACT)
    else:
        vertices = [move_with(*pair)[::10] for pair in zip(prediction.vertices, found)]
        np.testing.assert_allclose(vertices, arrays["verts500_aligned_every10"], **EXACT)


def test_f_score_of_a_few_points(facts):
    tiny = facts["tiny_f_score"]
    tree = KDTree(np.array(tiny["gt"]))
    at_5_mm, at_15_mm = f_scores(tree, np.array(tiny["pred"]))
    np.testing.assert_allclose(at_5_mm, tiny["th_005"], **EXACT)
    np.testing.assert_allclose(at_15_mm, tiny["th_015"], **EXACT)
    assert list(f_scores(tree, np.zeros((0, 3)))[0]) == tiny["empty_pred"]
