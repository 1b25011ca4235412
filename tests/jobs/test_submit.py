"""`metro-ray submit`: what is sent, whose exit status it has, what Ctrl-C does, who is refused."""

import logging
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from written_commands import written_commands

from metro_ray.cli.submit import run
from metro_ray.cluster import jobs as jobs_module
from metro_ray.cluster.jobs import Jobs, JobState
from metro_ray.errors import ConfigError, ResourceError

ROOT = Path(__file__).parents[2]
METRO_RAY = Path(sys.executable).parent / "metro-ray"
MIB = 1 << 20
PROBE = """
import pathlib, sys, time
print("runs in", pathlib.Path.cwd().name, "with", *sorted(p.name for p in pathlib.Path().iterdir()))
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def project(tmp_path):
    """A folder with one job, a large file that is ignored, and nothing else."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "probe.py").write_text(PROBE)
    (tmp_path / ".rayignore").write_text("/runs\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "weights.bin").write_bytes(bytes(MIB))
    return tmp_path


@pytest.fixture
def submit(head, project):
    def start(*arguments, **environment):
        return subprocess.Popen(
            [METRO_RAY, "submit", "--address", head.address, *arguments],
            cwd=project,
            env=head.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_the_upload_is_the_package_and_the_jobs_and_small(tmp_path):
    from ray._private.runtime_env.packaging import create_package

    target = tmp_path / "package.zip"
    quiet = logging.getLogger("quiet")
    create_package(str(ROOT), target, include_gitignore=True, logger=quiet)
    names = zipfile.ZipFile(target).namelist()
    needed = ["metro_ray/data/plan.py", "metro_ray/presets/demo.yaml", "jobs/train_body.py"]
    assert set(needed) <= set(names)
    tops = {name.partition("/")[0] for name in names}
    assert tops <= {
        *("metro_ray", "jobs", ".gitignore", ".rayignore", "LICENSE", "README.md"),
        *("pyproject.toml", "constraints.txt"),
    }
    assert target.stat().st_size < 8 * MIB


@pytest.mark.ray
def test_a_job_ends_with_its_own_exit_status_and_strangers_are_refused(submit, head):
    job = submit("--id", "seven", "probe", "7", "0")
    out, errors = job.communicate(timeout=120)
    assert job.returncode == 7, out + errors
    assert "with .rayignore jobs" in out
    assert "weights.bin" not in out
    assert "runs" not in out.partition("with")[2].split()
    assert "job seven FAILED" in errors

    for token in ("", "wrong"):
        stranger = submit("--status", "seven", RAY_AUTH_TOKEN=token, HOME="/nonexistent")
        _, errors = stranger.communicate(timeout=60)
        assert stranger.returncode == 2
        assert "wants its token and did not get it: set RAY_AUTH_MODE=token" in errors
        assert head.token not in errors


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_leaves_the_job_and_says_how_to_find_and_stop_it(submit):
    job = submit("--id", "long", "probe", "0", "300")
    line = job.stdout.readline()
    while "runs in" not in line:
        assert line, job.communicate()
        line = job.stdout.readline()
    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "job long runs on. metro-ray submit --follow long" in errors
    assert "Traceback" not in errors

    status = submit("--status", "long")
    assert status.communicate(timeout=60)[0].startswith("long RUNNING")
    stopped = submit("--stop", "long")
    stopped.communicate(timeout=60)
    assert stopped.returncode == 0
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        out = submit("--status", "long").communicate(timeout=60)[0]
        if "STOPPED" in out:
            break
    assert out.startswith("long STOPPED")

    quick = submit("--no-wait", "probe", "0", "0")
    name = quick.communicate(timeout=60)[0].strip()
    followed = submit("--follow", name)
    out, errors = followed.communicate(timeout=120)
    assert followed.returncode == 0
    assert "runs in" in out

    nobody = submit("--status", "nobody")
    _, errors = nobody.communicate(timeout=60)
    assert nobody.returncode == 2
    assert "knows no job nobody" in errors


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 7, 7), ("FAILED", None, 1), ("STOPPED", -15, 143)],
)
def test_the_shell_sees_what_it_would_see_without_a_cluster(status, code, expected):
    assert JobState(status=status, exit_code=code, message="").shell_status == expected


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "give the name of a job"),
        (["--status", "a", "train_body"], "give the name of a job"),
        (["train_bdy"], "no job train_bdy in .*jobs; it has: eval_body, eval_hand"),
        (["train_body", "--preset", "demo"], "run.output_dir is runs/demo: .*Ray deletes"),
        (["eval_body"], "run.output_dir is not given: .*Ray deletes"),
        (["train_body", "--optim.lr", "-1"], "optim.lr must be > 0"),
        (["tune_body", "--preset", "demo"], "run.output_dir is runs/demo: .*Ray deletes"),
        (["tune_hand", "--preset", "demo_hand", "--tune.trials", "0"], "tune.trials must be"),
        (["tune_body", "--x", "ftp://me:pw1234@host/a"], "URL with a password"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(argv, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=words) as refusal:
        run(argv)
    assert "pw1234" not in str(refusal.value)


@pytest.mark.parametrize(
    "command",
    [c for c in written_commands() if c.words[:2] == ["metro-ray", "submit"] and len(c.words) > 3],
    ids=str,
)
def test_lines_of_the_docs_are_not_refused(command, monkeypatch):
    """As they stand there: what is sent would have been sent."""
    monkeypatch.chdir(ROOT)

    class NoCluster:
        def __init__(self, address):
            raise ResourceError("no cluster")

    monkeypatch.setattr(jobs_module, "Jobs", NoCluster)
    with pytest.raises(ResourceError, match="no cluster"):
        run(command.words[2:])


def test_where_nobody_answers_the_ways_in_are_named(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(
        ResourceError, match=r"no Ray cluster answers at http://127\.0\.0\.1:9.*ssh -L"
    ):
        run(["--address", "http://127.0.0.1:9", "--status", "x"])


class StartingHead:
    """Refuses its first jobs as a head does whose node is not ready yet."""

    def __init__(self, refusals, words="No available agent to submit job, please try again later."):
        self.refusals, self.words = refusals, words

    def submit_job(self, *, entrypoint, submission_id, runtime_env):
        self.refusals -= 1
        if self.refusals >= 0:
            raise RuntimeError(f"Request failed with status code 500: {self.words}")
        return submission_id


@pytest.fixture
def jobs_of(monkeypatch):
    monkeypatch.setattr(jobs_module, "_POLL_S", 0.0)

    def make(client):
        jobs = object.__new__(Jobs)
        jobs.address, jobs._client = "http://127.0.0.1:1", client
        return jobs

    return make


def test_a_head_that_is_still_starting_is_waited_for(jobs_of, tmp_path, monkeypatch):
    assert jobs_of(StartingHead(3)).submit("true", tmp_path, "one") == "one"
    monkeypatch.setattr(jobs_module, "_HEAD_STARTS_S", 0.0)
    with pytest.raises(ResourceError, match="No available agent"):
        jobs_of(StartingHead(10**9)).submit("true", tmp_path, "one")


def test_another_refusal_is_told_at_once(jobs_of, tmp_path):
    head = StartingHead(10**9, words="out of disk")
    with pytest.raises(ResourceError, match="out of disk"):
        jobs_of(head).submit("true", tmp_path, "one")
    assert head.refusals == 10**9 - 1
