"""Prediction and evaluation jobs as people start them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pages import Page
from small_rows import write_rows

from metro_ray.bodies import load_body
from metro_ray.bodies.spec import get_spec
from metro_ray.config.load import load_config, to_dict
from metro_ray.evaluation.freihand_files import read_prediction
from metro_ray.evaluation.per_sample import find_results, read_per_sample
from metro_ray.training.builders import build_model
from metro_ray.training.checkpoint import save_checkpoint
from metro_ray.training.checkpoint_meta import CheckpointMeta

JOBS = Path(__file__).parents[2] / "jobs"


def run(job, *arguments, folder):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, JOBS / job, *arguments]
    return subprocess.run(
        [str(part) for part in command], cwd=folder, env=clean, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    config = load_config(
        "hand",
        overrides={
            "model.mesh": "anny_hand",
            "model.arch": "hrnet-w18-small",
            "model.num_hidden_layers": 1,
            "model.num_attention_heads": 1,
            "model.input_feat_dim": (2051, 16),
            "model.hidden_feat_dim": (16, 8),
        },
    )
    model = build_model(config, load_body("anny_hand"))
    meta = CheckpointMeta(config=to_dict(config), mesh="anny_hand", epoch=3, step=9)
    root = tmp_path_factory.mktemp("checkpoints")
    return save_checkpoint(root, model, torch.optim.Adam(model.parameters()), meta)[0]


@pytest.mark.parametrize(
    "job", ["predict_hand.py", "predict_body.py", "eval_hand.py", "eval_body.py"]
)
def test_a_job_without_a_checkpoint_says_what_it_needs(job, tmp_path):
    done = run(job, "--val_yaml", "val.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: which checkpoint? Give --model_path")
    assert list(tmp_path.iterdir()) == []


def test_metros_names_of_a_checkpoint_must_agree(tmp_path):
    done = run("predict_hand.py", "--model_path", "a", "--resume_checkpoint", "b", folder=tmp_path)
    assert done.returncode == 2
    assert "run.resume_checkpoint is set twice: '--model_path a' and" in done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_a_checkpoint_is_evaluated_and_predicts_with_its_own_settings(checkpoint, tmp_path):
    rows = write_rows(tmp_path / "rows", "val", 5, spec=get_spec("anny_hand"))
    common = ("--val_yaml", rows, "--run.device", "cpu", "--output_dir", "out")
    done = run("eval_hand.py", "--resume_checkpoint", checkpoint, *common, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Validation epoch: 0  mPVE: " in done.stdout + done.stderr
    assert json.loads((tmp_path / "out" / "result.json").read_text())["val/num_rows"] == 5
    measured = find_results(tmp_path / "out")
    assert measured.meta["config"]["run"]["resume_checkpoint"] == str(checkpoint)
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    page.require_self_contained()
    assert f"{measured.figures.means['mpve_mm']:.2f} mm" in page.text

    done = run("predict_hand.py", "--model_path", checkpoint, *common, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "out" / "ckpt3-sc10_rot0-pred.zip"
    assert f"prediction  {path}" in done.stdout
    assert read_prediction(path).joints.shape == (5, 21, 3)
    again = read_per_sample(path.with_suffix(".parquet"))
    for name, value in measured.figures.means.items():
        assert again.figures.means[name] == pytest.approx(value, rel=1e-4, nan_ok=True), name
