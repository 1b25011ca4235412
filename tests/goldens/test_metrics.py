"""METRO's metrics and validation averages (goldens g9_metrics.npz and .json)."""

import formulas
import numpy as np
import pytest
import torch
from toys import ToyBody, ToyOutput, take, toy_batch

from metro_ray.evaluation.evaluate import measure, root_relative
from metro_ray.geometry.procrustes import fit_similarity, similarity_align
from metro_ray.metrics import mpjpe, mpve
from metro_ray.metrics.metro_compat import rank_rows

MISREAD = ("three_points", "two_points")


@pytest.fixture
def params(data_goldens):
    return formulas.load_params(data_goldens.folder / "params.json")


@pytest.fixture
def arrays(data_goldens):
    return data_goldens.npz("g9_metrics.npz")


def _tensor(points):
    return torch.from_numpy(np.ascontiguousarray(points))


def test_similarity_alignment(params, arrays):
    for name, (source, target) in formulas.g9_similarity_cases(params).items():
        if name in MISREAD:
            continue
        aligned = similarity_align(_tensor(source)[None], _tensor(target)[None])[0].numpy()
        expected = arrays[f"sim_{name}"]
        scale = np.abs(target).max()
        # A float32 source: METRO computes in float64 and keeps it, ours comes back as float32.
        tolerance = 1e-7 if source.dtype == np.float32 else 1e-12
        if not np.isfinite(expected).all():
            assert np.isnan(aligned).all(), f"{name}: a single point has no scale"
            continue
        assert np.abs(aligned - expected).max() <= tolerance * scale, name


def test_metro_misreads_three_points_as_columns(params, arrays):
    """Three points given as rows: METRO takes the coordinates for points. Ours does not."""
    source, target = formulas.g9_similarity_cases(params)["three_points"]
    as_columns = similarity_align(_tensor(source.T)[None], _tensor(target.T)[None])[0].numpy().T
    np.testing.assert_allclose(as_columns, arrays["sim_three_points"], atol=1e-12)
    ours = similarity_align(_tensor(source)[None], _tensor(target)[None])[0].numpy()
    assert np.abs(ours - arrays["sim_three_points"]).max() > 1e-3


def test_metro_misreads_two_points_as_points_of_a_plane(params, arrays):
    """Two points always fit exactly; METRO's answer for them is that of another problem."""
    source, target = formulas.g9_similarity_cases(params)["two_points"]
    ours = similarity_align(_tensor(source)[None], _tensor(target)[None])[0].numpy()
    np.testing.assert_allclose(ours, target, atol=1e-12)
    assert np.abs(arrays["sim_two_points"] - target).max() > 1e-3


def test_joint_and_vertex_errors(params, arrays):
    pred, gt, has, pred_vertices, gt_vertices, has_smpl = formulas.g9_mpjpe(params)
    joints = mpjpe(_tensor(pred), _tensor(gt[..., :3]), (2, 3)).numpy()
    vertices = mpve(_tensor(pred_vertices), _tensor(gt_vertices)).numpy()
    np.testing.assert_allclose(joints[has == 1], arrays["mpjpe"], rtol=1e-6)
    np.testing.assert_allclose(vertices[has_smpl == 1], arrays["mpve"], rtol=1e-6)


class KnownMeshes(ToyBody):
    """A body model whose pose is the number of a row of given meshes."""

    def __init__(self, meshes):
        super().__init__()
        self.meshes = meshes

    def forward(self, pose, betas):
        vertices = self.meshes[pose[:, 0].long()]
        return ToyOutput(vertices, vertices[:, :24])


def _evaluate(inputs):
    """Run the evaluation loop on a scenario: 40 vertices, the first 17 of which are the joints."""
    prediction = _tensor(inputs["pred_vertices"])
    body = KnownMeshes(_tensor(inputs["gt_vertices"]))
    rows = len(prediction)
    joints = _tensor(inputs["gt_joints24"])
    joints[..., :3] -= joints[:, body.spec.root_label_joint, None, :3].clone()
    batch = toy_batch(
        body,
        rows,
        pose=torch.arange(rows)[:, None].repeat(1, body.spec.num_pose).float(),
        joints_3d=joints,
        has_mesh=_tensor(inputs["has_smpl"]) == 1,
        has_joints_3d=_tensor(inputs["has_3d_joints"]) == 1,
    )
    return measure(
        lambda batch: root_relative(prediction[batch.row_id], body),
        body,
        [take(batch, range(start, min(start + 5, rows))) for start in range(0, rows, 5)],
        "cpu",
        split="val",
    )


def _number(value):
    return np.nan if value in (None, "nan") else value


def test_validation_averages(params, arrays, data_goldens):
    """Exact means and, by name, METRO's own averages for every scenario and number of processes."""
    cases = data_goldens.json("g9_metrics.json")["validate"]
    assert cases
    for case in cases:
        name, world = case["scenario"], case["world"]
        result = _evaluate(formulas.g9_validate_inputs(params, name))
        table = result.table
        everything = np.ones(case["n"], bool)
        for ours, theirs, rows in (
            ("mpve", "mpve", table.has_mesh),
            ("mpjpe", "mpjpe", everything),
            ("pa_mpjpe", "pa", everything),
        ):
            expected = arrays[f"val_{name}_per_sample_{theirs}"]
            np.testing.assert_allclose(getattr(table, ours)[rows], expected[rows], rtol=2e-6)
        for key, metric in (("mPVE", "mpve"), ("mPJPE", "mpjpe"), ("PAmPJPE", "pa_mpjpe")):
            exact = _number(case["exact_per_sample_mean"][key])
            np.testing.assert_allclose(
                result.metrics[f"val/{metric}_mm"], 1000 * exact, rtol=1e-6, err_msg=name
            )
        metro = table.metro_averages(case["batch"], world)
        reference = [
            _number(case["reference"][key]) for key in ("mPVE", "mPJPE", "PAmPJPE", "count")
        ]
        np.testing.assert_allclose(metro, reference, rtol=1e-6, err_msg=f"{name} on {world}")
        for rank, share in enumerate(case["per_rank"]):
            assert rank_rows(case["n"], rank, world).tolist() == share["indices"]


def test_scale_and_rotation_are_those_of_the_transform(params):
    source, target = formulas.g9_similarity_cases(params)["mirror_exact"]
    fit = fit_similarity(_tensor(source)[None], _tensor(target)[None])
    assert torch.linalg.det(fit.rotation).item() == pytest.approx(1.0)
