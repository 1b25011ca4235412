"""Addresses, environment and temporary folders, without a cluster."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metro_ray.cluster import machine
from metro_ray.cluster.connect import cluster
from metro_ray.cluster.token_file import warn_if_others_can_read_it
from metro_ray.errors import ResourceError


def test_an_address_where_nothing_listens_is_refused_at_once(monkeypatch, make_config):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()
    words = f"RAY_ADDRESS={address}(.|\n)*RAY_AUTH_TOKEN"
    with pytest.raises(ResourceError, match=words), cluster(make_config()):
        pass
    assert time.monotonic() - started < 15
    assert "RAY_DEDUP_LOGS" not in os.environ


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scaling.train_workers": 1000}, "1000 ranks, but this machine has"),
        ({"scaling.cpus_per_worker": 5000.0}, "no place for 1 rank"),
        ({"run.device": "cuda"}, "run.device is cuda"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_before_ray_starts(
    monkeypatch, make_config, changes, words
):
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("metro_ray.cluster.connect.num_gpus", lambda: 0)
    monkeypatch.setattr(ray, "init", lambda **kwargs: pytest.fail("started"))
    with pytest.raises(ResourceError, match=words), cluster(make_config(**changes)):
        pass


@pytest.mark.parametrize("too_slow", [1, 2])
def test_a_busy_machine_gets_a_second_chance_and_words(monkeypatch, make_config, caplog, too_slow):
    import ray

    starts, ports = [], []

    def init(**_):
        starts.append(1)
        ports.append(os.environ["RAY_GCS_SERVER_PORT"])
        if len(starts) <= too_slow:
            raise Exception("The current node timed out during startup. This could happen")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    if too_slow == 1:
        with cluster(make_config()):
            pass
    else:
        words = "did not start within 2 x 30 s: this machine is too busy"
        with pytest.raises(ResourceError, match=words), cluster(make_config()):
            pass
    assert len(starts) == 2
    assert ports[0] != ports[1]  # nothing of the first start is met again
    assert "trying once more" in caplog.text


def test_a_temporary_folder_too_long_for_sockets_is_refused(monkeypatch, make_config, tmp_path):
    long = tmp_path / ("x" * 40)
    long.mkdir()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    words = "too long for Ray's sockets"
    with pytest.raises(ResourceError, match=words), cluster(make_config()):
        pass
    assert list(long.iterdir()) == []


def test_importing_the_room_starts_nothing():
    code = (
        "import os, threading; before = dict(os.environ); import metro_ray.cluster.train, "
        "metro_ray.cluster.connect; import sys; "
        "print('ray' in sys.modules, threading.active_count(), dict(os.environ) == before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "1", "True"]


def test_container_limits_bound_the_machine(monkeypatch, tmp_path):
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(machine, "_CGROUP_CPU", quota)
    free = machine.usable_cpus()
    for text, expected in [
        ("max 100000", free),
        ("50000 100000", 1),
        ("nonsense", free),
        ("", free),
    ]:
        quota.write_text(text + "\n")
        assert machine.usable_cpus() == expected
    siblings = tmp_path / "siblings"
    monkeypatch.setattr(machine, "_SIBLINGS", siblings)
    monkeypatch.setattr(machine, "usable_cpus", lambda: 8)
    for text, expected in [("0,48", 4), ("0-1", 4), ("0", 8), ("", 8)]:
        siblings.write_text(text)
        assert machine.physical_cores() == expected


def test_the_object_store_is_modest_and_fits_the_shared_memory(monkeypatch):
    usage = machine.shutil.disk_usage("/")
    for free, largest in [(64 << 20, 128 << 20), (1 << 40, 2048 << 20)]:
        shared = usage._replace(free=free)
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda path, shared=shared: shared)
        assert 128 << 20 <= machine.object_store_bytes() <= largest


@pytest.mark.ray
def test_a_local_cluster_leaves_nothing_behind(make_config):
    """In a process of its own: it ends with no Ray process, no folder and no token in the home."""
    code = """
import os, ray
from pathlib import Path
from metro_ray.cluster.connect import cluster
from metro_ray.config.load import load_config
with cluster(load_config("body", overrides={"run.device": "cpu"})) as plan:
    print("plan", plan.train_workers)
    folder = ray._private.worker._global_node.get_session_dir_path()
    print("folder", folder)
    print("others", oct(Path(folder).parents[1].stat().st_mode & 0o077))
    address = ray.remote(lambda: os.environ["RAY_ADDRESS"])
    print("own", ray.get(address.remote()).split(":")[1] in ray.get_runtime_context().gcs_address)
print("running", ray.is_initialized(), os.environ.get("RAY_DEDUP_LOGS"), os.environ.get("RAY_ADDRESS"))
"""
    home = Path(os.environ.get("TMPDIR", "/tmp")) / f"no-home-{os.getpid()}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("RAY_")
    } | {"HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert lines["plan"] == "1"
    assert lines["own"] == "True"
    assert lines["others"] == "0o0"  # Ray's files hold what the run's processes were given
    assert lines["running"] == "False None None"
    assert not Path(lines["folder"]).parents[1].exists()
    assert not home.exists()


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, True), (0o600, False)])
def test_a_token_that_others_can_read_is_pointed_out(monkeypatch, tmp_path, caplog, mode, warned):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not warn_if_others_can_read_it()
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("hunter2")
    path.chmod(mode)
    assert warn_if_others_can_read_it() == warned
    assert (f"chmod 600 {path}" in caplog.text) == warned
    assert "hunter2" not in caplog.text
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert not warn_if_others_can_read_it()
