"""Prediction jobs: what they refuse, what they write, and that a job that was stopped goes on."""

import numpy as np
import pytest
import torch
from small_rows import write_rows

from metro_ray.bodies import load_body
from metro_ray.bodies.spec import get_spec
from metro_ray.cluster.connect import cluster
from metro_ray.cluster.evaluate import run_evaluate
from metro_ray.cluster.predict import output_name, run_predict
from metro_ray.config.cli import parse_given
from metro_ray.config.load import load_config, to_dict
from metro_ray.data.dataset import open_dataset
from metro_ray.errors import CheckpointError, ConfigError, DataError
from metro_ray.evaluation.freihand_files import read_prediction
from metro_ray.evaluation.prediction_files import PredictionWork
from metro_ray.evaluation.tta import View, fused_views, single_view
from metro_ray.evaluation.tta_pass import ViewLoader, ViewPredictor
from metro_ray.training.builders import build_model
from metro_ray.training.checkpoint import load_predictor_parts, save_checkpoint
from metro_ray.training.checkpoint_meta import CheckpointMeta

NUM_ROWS, BROKEN = 7, 5
VIEWS = {"views.scales": (1.0, 0.9), "views.rotations_deg": (0.0, 30.0)}
FOUR = [View(scale, turn) for scale in (1.0, 0.9) for turn in (0.0, 30.0)]


def make_checkpoint(folder, kind):
    config = load_config(
        kind,
        overrides={
            "model.mesh": f"anny_{kind}",
            "model.arch": "hrnet-w18-small",
            "model.num_hidden_layers": 1,
            "model.num_attention_heads": 1,
            "model.input_feat_dim": (2051, 16),
            "model.hidden_feat_dim": (16, 8),
        },
    )
    torch.manual_seed(0)
    model = build_model(config, load_body(f"anny_{kind}"))
    meta = CheckpointMeta(config=to_dict(config), mesh=f"anny_{kind}", epoch=7, step=70)
    return save_checkpoint(folder, model, torch.optim.Adam(model.parameters()), meta)[0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("hand"), "hand")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder, "val", NUM_ROWS, spec=get_spec("anny_hand"))
    write_rows(folder, "bad", NUM_ROWS, (BROKEN,), spec=get_spec("anny_hand"))
    return folder


@pytest.fixture
def given(checkpoint, folder, tmp_path):
    return {
        "run.resume_checkpoint": str(checkpoint),
        "data.val_yaml": str(folder / "val.yaml"),
        "data.block_rows": 2,
        "run.output_dir": str(tmp_path / "out"),
        "run.device": "cpu",
    }


@pytest.fixture(scope="module")
def ray_cluster():
    with cluster(load_config("hand", overrides={"run.device": "cpu"})) as plan:
        yield plan


def expected(checkpoint, yaml_path, plan):
    """The same predictions without Ray."""
    parts = load_predictor_parts(checkpoint)
    dataset = open_dataset(yaml_path)
    load = ViewLoader(parts.body.spec, plan)
    predict = ViewPredictor(parts.model, parts.body, plan)
    return predict(np.stack([load(dataset.row(row)) for row in range(len(dataset))]))


def no_cluster(monkeypatch):
    monkeypatch.setattr(
        "metro_ray.cluster.predict.cluster", lambda config: pytest.fail("a cluster was asked for")
    )


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"data.val_yaml": "absent.yaml"}, DataError, r"data set absent\.yaml does not exist"),
        ({"run.resume_checkpoint": None}, ConfigError, r"which checkpoint\? Give --model_path"),
        ({"model.arch": "hrnet-w64"}, CheckpointError, r"model\.arch is hrnet-w18-small there"),
        (
            {"eval.multiscale": True, "eval.rotation_deg": 10.0},
            ConfigError,
            r"--sc 1 --rot 10 asks for a single one",
        ),
        (
            {"eval.multiscale": True, "views.flip": True},
            ConfigError,
            r"views\.flip is for bodies: anny_hand is a right hand",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_a_cluster(monkeypatch, given, more, error, message):
    no_cluster(monkeypatch)
    with pytest.raises(error, match=message):
        run_predict("hand", given | more)


def test_an_evaluation_refuses_several_views(monkeypatch, given):
    no_cluster(monkeypatch)
    with pytest.raises(ConfigError, match=r"run jobs/predict_hand\.py with it"):
        run_evaluate("hand", given | {"eval.multiscale": True})


def test_a_prediction_that_is_there_is_not_replaced_by_accident(monkeypatch, given, tmp_path):
    no_cluster(monkeypatch)
    there = tmp_path / "out" / "ckpt7-sc10_rot0-pred.zip"
    there.parent.mkdir()
    there.write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"pred\.zip is there already: --run\.overwrite true"):
        run_predict("hand", given)
    assert there.read_bytes() == b"mine"


def test_bodies_need_a_data_set_and_hands_have_metros(monkeypatch, checkpoint, tmp_path):
    no_cluster(monkeypatch)
    given = {"run.resume_checkpoint": str(checkpoint), "data.root": str(tmp_path)}
    with pytest.raises(DataError, match=r"data set freihand/test\.yaml does not exist"):
        run_predict("hand", given)
    with pytest.raises(ConfigError, match="there is nothing to predict"):
        run_predict("body", given)


@pytest.mark.parametrize(
    ("kind", "flags", "epoch", "name"),
    [
        ("hand", "", None, "ckpt200-sc10_rot0-pred.zip"),
        ("hand", "--multiscale_inference", None, "ckpt200-multisc-pred.zip"),
        ("hand", "--sc 0.7 --rot -90", 12, "ckpt12-sc07_rot-90-pred.zip"),
        ("body", "--eval.multiscale", 3, "ckpt3-multisc-pred.npz"),
        ("body", "", 3, "ckpt3-sc10_rot0-pred.npz"),
    ],
)
def test_files_have_metros_names(kind, flags, epoch, name):
    config = load_config(kind, overrides=parse_given(kind, flags.split(), "Predict with"))
    assert output_name(config, epoch) == name


@pytest.mark.ray
def test_a_stopped_job_goes_on_and_gives_what_it_would_have(
    ray_cluster, monkeypatch, given, checkpoint, folder, tmp_path
):
    job = given | VIEWS | {"eval.multiscale": True}
    add, calls = PredictionWork.add, []

    def stop_after_two(self, predicted):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(predicted.rows.tolist())
        add(self, predicted)

    monkeypatch.setattr(PredictionWork, "add", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        run_predict("hand", job)
    assert [path for path in (tmp_path / "out").iterdir() if path.is_file()] == []

    kept = [row for rows in calls for row in rows]
    calls.clear()
    again = []
    monkeypatch.setattr(
        PredictionWork,
        "add",
        lambda self, rows: again.extend(rows.rows.tolist()) or add(self, rows),
    )
    summary = run_predict("hand", job)
    assert summary.num_resumed == len(kept) > 0
    assert sorted(kept + again) == list(range(NUM_ROWS))
    assert summary.path.name == "ckpt7-multisc-pred.zip"
    names = {path.name for path in summary.path.parent.iterdir()}
    assert names == {summary.path.name, "ckpt7-multisc-pred.parquet", "report.html"}

    read = read_prediction(summary.path)
    wanted = expected(checkpoint, folder / "val.yaml", fused_views(FOUR))
    np.testing.assert_allclose(read.joints, wanted.joints, rtol=0, atol=1e-5)
    np.testing.assert_allclose(read.vertices, wanted.vertices, rtol=0, atol=1e-5)
    assert "4 views fused" in summary.text()
    assert "\nValidation epoch: 0  mPVE: " in summary.text()
    assert "2 scales x 2 rotations fused" in summary.text()


@pytest.mark.ray
def test_a_row_that_cannot_be_read_is_named_and_there_is_no_file(
    ray_cluster, given, folder, tmp_path
):
    message = rf"row {BROKEN} \(row{BROKEN}\.jpg\).*cannot be decoded"
    with pytest.raises(DataError, match=message):
        run_predict("hand", given | {"data.val_yaml": str(folder / "bad.yaml")})
    assert [path for path in (tmp_path / "out").iterdir() if path.is_file()] == []


@pytest.mark.ray
def test_aml_keeps_the_root_under_a_single_view(ray_cluster, given, checkpoint, folder):
    job = given | {"eval.aml": True, "eval.scale_factor": 0.8, "eval.rotation_deg": 20.0}
    read = read_prediction(run_predict("hand", job).path)
    plan = single_view(View(0.8, 20.0))
    wanted = expected(checkpoint, folder / "val.yaml", plan)
    moved = read.vertices - read.joints[:, :1]
    np.testing.assert_allclose(moved, wanted.vertices, rtol=0, atol=1e-5)
    assert np.abs(read.joints[:, 0]).max() > 1e-4


@pytest.mark.ray
@pytest.mark.slow
def test_weights_that_are_broken_are_told_with_the_row(ray_cluster, given, tmp_path):
    root = tmp_path / "broken"
    folder = make_checkpoint(root, "hand")
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["cascade.encoders.0.embedding.weight"].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"NaN or infinity for row\d\.jpg"):
        run_predict("hand", given | {"run.resume_checkpoint": str(folder)})


@pytest.mark.ray
@pytest.mark.slow
def test_bodies_with_mirrored_views(ray_cluster, given, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "body", "body")
    yaml_path = write_rows(tmp_path / "rows", "val", 3)
    job = given | VIEWS | {"eval.multiscale": True, "views.flip": True}
    job |= {"run.resume_checkpoint": str(checkpoint), "data.val_yaml": str(yaml_path)}
    summary = run_predict("body", job)
    assert summary.num_views == 8
    wanted = expected(checkpoint, yaml_path, fused_views(FOUR, flip=True))
    with np.load(summary.path) as arrays:
        np.testing.assert_allclose(arrays["joints"], wanted.joints, rtol=0, atol=1e-5)
        np.testing.assert_allclose(arrays["vertices"], wanted.vertices, rtol=0, atol=1e-5)
        assert arrays["keys"].tolist() == ["row0.jpg", "row1.jpg", "row2.jpg"]
