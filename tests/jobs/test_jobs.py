"""The jobs as people start them: `python jobs/...` from anywhere, and `ray job submit` with a token."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
from small_rows import write_rows

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "jobs"
TINY = [
    *("--model.mesh", "anny_body", "--arch", "hrnet-w18-small", "--data.crop", "fast"),
    *("--num_hidden_layers", "1", "--num_attention_heads", "1"),
    *("--input_feat_dim", "2051,16", "--hidden_feat_dim", "16,8"),
    *("--num_train_epochs", "1", "--per_gpu_train_batch_size", "4", "--num_workers", "1"),
    *("--run.device", "cpu", "--eval.gallery_images", "0"),
]


def free_ports(count):
    """Ports below Ray's own worker range (10002 and up) that nobody listens on."""
    found = []
    for port in range(6500 + os.getpid() % 2500, 9900):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


class Head:
    """A head node as `ray start --head --block` in a process of its own, with its own token."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="mrj-", dir="/tmp"))
        port, dashboard, client = free_ports(3)
        self.address = f"http://127.0.0.1:{dashboard}"
        clean = {name: v for name, v in os.environ.items() if not name.startswith("RAY_")}
        self.token = secrets.token_hex(16)
        self.environment = clean | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        bin_folder = Path(sys.executable).parent
        self.ray = bin_folder / "ray"
        self.environment["PATH"] = f"{bin_folder}:{clean.get('PATH', '')}"
        self.log = (self.folder / "head.log").open("w")
        self.process = subprocess.Popen(
            [
                *(self.ray, "start", "--head", "--block", "--node-ip-address=127.0.0.1"),
                *(f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=4"),
                *(f"--ray-client-server-port={client}", "--dashboard-host=127.0.0.1"),
                *("--object-store-memory=200000000", "--disable-usage-stats"),
            ],
            env=self.environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def wait(self, seconds=60):
        request = urllib.request.Request(
            f"{self.address}/api/jobs/", headers={"Authorization": f"Bearer {self.token}"}
        )
        deadline = time.monotonic() + seconds
        while True:
            try:
                return urllib.request.urlopen(request, timeout=5).read()
            except OSError:
                assert self.process.poll() is None, (self.folder / "head.log").read_text()
                assert time.monotonic() < deadline, (self.folder / "head.log").read_text()
                time.sleep(0.5)

    def submit(self, *command, **environment):
        return subprocess.run(
            [
                *(self.ray, "job", "submit", "--address", self.address),
                *("--working-dir", ROOT, "--", "python", *command),
            ],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        finally:
            self.log.close()
            shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def head():
    started = Head()
    try:
        started.wait()
        yield started
    finally:
        started.stop()


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
