"""The jobs as people start them: `python jobs/...` from anywhere, and `ray job submit` with a token."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ray_head import SECRET_KEY
from small_rows import write_rows
from tiny_job import TINY

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "jobs"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"), "train", 12)


@pytest.mark.ray
def test_a_submitted_job_trains_and_a_failing_one_says_why(head, rows, tmp_path):
    run = tmp_path / "run"
    data = ["--train_yaml", str(rows), "--val_yaml", str(rows)]
    done = head.submit("jobs/train_body.py", *TINY, *data, "--run.output_dir", str(run))
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((run / "result.json").read_text())
    assert result["val/num_rows"] == 12
    assert f"result      {run / 'result.json'}" in done.stdout
    assert "METRO INFO: Save checkpoint to" in done.stdout

    absent = str(tmp_path / "absent.yaml")
    failed = head.submit("jobs/train_body.py", *TINY, "--train_yaml", absent)
    assert failed.returncode != 0
    assert f"error: data set {absent} does not exist" in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr

    secret_places = [path for path in run.rglob("*") if path.is_file()]
    shown = done.stdout + done.stderr + head.read("/api/jobs/")
    shown += "".join(path.read_bytes().decode(errors="replace") for path in secret_places)
    assert "train_body.py" in shown
    assert SECRET_KEY not in shown
    assert head.token not in shown

    stranger = head.submit("jobs/train_body.py", "--help", RAY_AUTH_TOKEN="wrong")
    assert stranger.returncode != 0


@pytest.mark.parametrize("job", ["train_body.py", "train_hand.py"])
def test_a_job_refuses_bad_settings_from_any_folder(job, tmp_path):
    done = subprocess.run(
        [sys.executable, JOBS / job, "--optim.lr", "-1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert done.stderr.startswith("error: optim.lr must be > 0, got -1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("job", sorted(JOBS.glob("*.py")), ids=lambda path: path.name)
def test_jobs_are_short_and_show_their_help_without_torch_and_ray(job):
    assert len(job.read_text().splitlines()) <= 30
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(job)!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(job)!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    print('stopped', stop.code, 'ray' in sys.modules, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "stopped 0 False False", done.stderr
