"""Fusion of METRO's 95 views (goldens g12_tta.npz and .json)."""

import formulas
import numpy as np
import pytest
import torch

from metro_ray.evaluation.tta import (
    PLAIN_VIEW,
    ViewFusion,
    fused_file_name,
    metro_views,
    view_file_name,
)
from metro_ray.metrics import pa_mpjpe, pa_mpve


@pytest.fixture(scope="module")
def facts(data_goldens):
    return data_goldens.json("g12_tta.json")


def test_views_and_file_names(facts):
    views = metro_views()
    settings = facts["settings_in_order"]
    assert [(view.scale, view.rotation_deg) for view in views] == [
        (one["scale"], one["rot"]) for one in settings
    ]
    assert [view_file_name(view) for view in views] == [one["file"] for one in settings]
    assert fused_file_name() == facts["fused_file"]
    reference = facts["reference_setting"]
    assert (reference["scale"], reference["rot"]) == PLAIN_VIEW
    assert facts["single_mode_settings"] == [list(PLAIN_VIEW)]


def test_fusion_and_the_errors_of_views(data_goldens, facts):
    params = formulas.load_params(data_goldens.folder / "params.json")
    arrays = data_goldens.npz("g12_tta.npz")

    def predict(view):
        return map(torch.from_numpy, formulas.g12_prediction(params, *view))

    joints, vertices = predict(PLAIN_VIEW)
    fusion = ViewFusion(joints, vertices)
    joint_errors, vertex_errors = [], []

    def compare(view_joints, view_vertices):
        joint_errors.append(1000 * pa_mpjpe(view_joints, joints).mean().item())
        vertex_errors.append(1000 * pa_mpve(view_vertices, vertices).mean().item())

    for view in metro_views():
        prediction = tuple(predict(view))
        fusion.add(*prediction)
        compare(*prediction)
    fused = fusion.result()
    compare(*fused)
    np.testing.assert_allclose(fused.joints.numpy(), arrays["fused_joints"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(fused.vertices.numpy(), arrays["fused_vertices"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(joint_errors, arrays["pa_joint_error_mm"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(vertex_errors, arrays["pa_vertex_error_mm"], rtol=0, atol=1e-9)
