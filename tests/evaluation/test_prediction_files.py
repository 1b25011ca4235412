"""Finished rows are kept, a prediction file is whole or not there, and the leaderboard takes it."""

import json
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.bodies import load_body
from metro_ray.cli import score
from metro_ray.errors import DataError
from metro_ray.evaluation.freihand_files import read_prediction
from metro_ray.evaluation.prediction_files import PredictedRows, PredictionWork


def request(num_rows, **more):
    return {"rows": num_rows, "data": "val.yaml", "weights": "abc", **more}


def predictions(num_rows, num_vertices=5, seed=0):
    rng = np.random.default_rng(seed)
    joints = rng.normal(size=(num_rows, 21, 3)).astype(np.float32)
    return joints, rng.normal(size=(num_rows, num_vertices, 3)).astype(np.float32)


def some(rows, joints, vertices):
    rows = np.asarray(rows, np.int64)
    return PredictedRows(rows, [f"key{row}" for row in rows], joints[rows], vertices[rows])


@given(data=st.data(), num_rows=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_rows_come_in_any_order_and_leave_in_that_of_the_data_set(tmp_path_factory, data, num_rows):
    folder = tmp_path_factory.mktemp("out")
    joints, vertices = predictions(num_rows)
    owner = data.draw(st.lists(st.integers(0, 3), min_size=num_rows, max_size=num_rows))
    for part in data.draw(st.permutations(sorted(set(owner)))):
        work = PredictionWork(folder, request(num_rows))  # as a job that starts again does
        work.add(some(np.flatnonzero(np.array(owner) == part), joints, vertices))
    assert len(work.missing()) == 0
    read = read_prediction(work.write_hands(folder / "pred.zip"))
    assert np.array_equal(read.joints, joints)
    assert np.array_equal(read.vertices, vertices)
    written = zipfile.ZipFile(folder / "pred.zip").read("pred.json").decode()
    assert written == json.dumps([joints.tolist(), vertices.tolist()])
    with np.load(work.write_arrays(folder / "pred.npz")) as arrays:
        assert np.array_equal(arrays["joints"], joints)
        assert arrays["vertices"].dtype == np.float32
        assert np.array_equal(arrays["vertices"], vertices)
        assert arrays["keys"].tolist() == [f"key{row}" for row in range(num_rows)]


def test_a_file_with_rows_missing_is_not_written(tmp_path):
    work = PredictionWork(tmp_path, request(4))
    work.add(some([0, 1, 3], *predictions(4)))
    for write, name in ((work.write_hands, "a.zip"), (work.write_arrays, "a.npz")):
        with pytest.raises(DataError, match=r"1 of 4 rows are not predicted, the first is row 2"):
            write(tmp_path / name)
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


def test_another_request_begins_anew(tmp_path):
    PredictionWork(tmp_path, request(2)).add(some([0, 1], *predictions(2)))
    assert len(PredictionWork(tmp_path, request(2)).missing()) == 0
    assert len(PredictionWork(tmp_path, request(2, crop="fast")).missing()) == 2
    assert len(PredictionWork(tmp_path, request(3)).missing()) == 3


def test_a_damaged_part_is_predicted_again(tmp_path, caplog):
    work = PredictionWork(tmp_path, request(4))
    work.add(some([0, 1], *predictions(4)))
    work.add(some([2, 3], *predictions(4)))
    path = work.folder / "rows-000000002-000000003.npz"
    path.write_bytes(path.read_bytes()[:100])
    (work.folder / ".rows-000000000-000000001.npz.partial").write_bytes(b"cut")
    assert PredictionWork(tmp_path, request(4)).missing().tolist() == [2, 3]
    assert "is damaged" in caplog.text


def test_rows_that_were_predicted_twice_are_there_once(tmp_path):
    joints, vertices = predictions(6)
    work = PredictionWork(tmp_path, request(6))
    work.add(some([0, 1, 2, 3], joints, vertices))
    work.add(some([2, 3, 4, 5], joints, vertices))
    read = read_prediction(work.write_hands(tmp_path / "pred.zip"))
    assert np.array_equal(read.joints, joints)


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"val\.yaml has no rows to predict"):
        PredictionWork(tmp_path, request(0))


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    joints, vertices = predictions(3)
    joints[1, 4, 2] = np.nan
    work = PredictionWork(tmp_path, request(3))
    work.add(some([0, 1, 2], joints, vertices))
    with pytest.raises(DataError, match="sample 1, point 4, z is nan"):
        work.write_hands(tmp_path / "pred.zip")
    assert not (tmp_path / "pred.zip").exists()


def test_the_truth_as_a_prediction_scores_perfectly(tmp_path, capsys):
    body = load_body("anny_hand")
    draw = torch.Generator().manual_seed(0)
    pose = 0.3 * torch.randn(4, body.spec.num_pose, generator=draw)
    mesh = body(pose, body.neutral_betas.expand(4, -1)).vertices.double()
    joints = body.double().joints_from_mesh(mesh)
    body.float()  # load_body may give the same one to others
    (tmp_path / "evaluation_xyz.json").write_text(json.dumps(joints.tolist()))
    (tmp_path / "evaluation_verts.json").write_text(json.dumps(mesh.tolist()))
    work = PredictionWork(tmp_path, request(4))
    relative = [(points - joints[:, :1]).numpy() for points in (joints, mesh)]
    work.add(some(range(4), *relative))
    path = work.write_hands(tmp_path / "ckpt200-sc10_rot0-pred.zip")
    assert score.run(["freihand", "--gt", str(tmp_path), "--pred", str(path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["xyz_al_mean3d"] < 1e-5  # centimetres; 1e-8 of the official norm
    assert figures["mesh_al_mean3d"] < 1e-5
    assert figures["xyz_al_auc3d"] == pytest.approx(1.0, abs=0.006)  # error 0 is not <= 0 exactly
    assert figures["f_al_score_5"] == figures["f_al_score_15"] == 1.0
    assert figures["xyz_mean3d"] >= 0.0
