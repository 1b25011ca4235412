"""A job that is told to end by SIGTERM, as schedulers and preempted machines do it, and goes on later."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_rows import write_rows

JOB = Path(__file__).parents[2] / "jobs" / "train_body.py"
NUM_STEPS = 2 * 10
SETTINGS = [
    *("--model.mesh", "anny_body", "--arch", "hrnet-w18-small", "--data.crop", "fast"),
    *("--num_hidden_layers", "1", "--num_attention_heads", "1"),
    *("--input_feat_dim", "2051,16", "--hidden_feat_dim", "16,8"),
    *("--num_train_epochs", "2", "--per_gpu_train_batch_size", "4", "--num_workers", "1"),
    *("--run.device", "cpu", "--eval.gallery_images", "0", "--run.log_every", "1"),
]


def start(rows, run, *more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, JOB, *SETTINGS, "--train_yaml", rows, "--val_yaml", rows]
    command += ["--run.output_dir", run, *more]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(part) for part in command], env=clean, **pipe)


def steps(run):
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with path.open() as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["kind"] == "train"]


@pytest.mark.ray
@pytest.mark.slow
def test_sigterm_saves_ends_cleanly_and_the_run_goes_on(tmp_path):
    rows, run = write_rows(tmp_path, "train", 40), tmp_path / "run"
    job = start(rows, run)
    deadline = time.monotonic() + 240
    while len(steps(run)) < 2 and time.monotonic() < deadline and job.poll() is None:
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 143, errors
    assert "as asked; the same command with --run.resume true goes on from there" in errors
    assert "Traceback" not in errors
    assert "*** SIGTERM" not in errors
    stopped_at = steps(run)[-1]
    assert 2 <= stopped_at < NUM_STEPS
    meta = json.loads((run / "checkpoints" / "last" / "meta.json").read_text())
    assert meta["step"] == stopped_at

    refused = start(rows, run)
    _, errors = refused.communicate(timeout=120)
    assert refused.returncode == 2
    assert "--run.resume true goes on with it" in errors

    done = start(rows, run, "--run.resume", "true")
    _, errors = done.communicate(timeout=240)
    assert done.returncode == 0, errors
    assert steps(run) == list(range(1, NUM_STEPS + 1))
    assert json.loads((run / "result.json").read_text())["epochs"] == 2

    rows, measured = write_rows(tmp_path, "long", 600), tmp_path / "eval"
    best = ("--resume_checkpoint", run / "checkpoints" / "best", "--per_gpu_eval_batch_size", "1")
    job = start(rows, measured, "--run_eval_only", *best)
    deadline = time.monotonic() + 120
    while "val: " not in text_of(measured / "log.txt") and time.monotonic() < deadline:
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 143, errors
    assert "the evaluation was stopped as asked and has written nothing" in errors
    assert not (measured / "result.json").exists()


def text_of(path):
    return path.read_text() if path.is_file() else ""
