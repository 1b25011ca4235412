"""A run that asks an autoscaler for machines, gets them, and gives them back."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ray_head import free_ports

from metro_ray.cluster.machines import plan_with_machines
from metro_ray.cluster.resources import NodeResources
from metro_ray.config.load import load_config
from metro_ray.errors import ConfigError, ResourceError

DRIVER = """
import time
from metro_ray.cluster.connect import cluster, live_nodes
from metro_ray.config.load import load_config
import ray
settings = {"scaling.train_workers": 16, "scaling.wait_for_machines_s": 240}
started = time.monotonic()
with cluster(load_config("body", overrides=settings)) as plan:
    print("plan", plan.train_workers, plan.gpus_per_worker)
    print("machines", sum(node.gpus == 8 for node in live_nodes()))
    print("seconds", round(time.monotonic() - started, 1))
"""


def wanting(**more):
    return load_config("body", overrides={"scaling.train_workers": 8, **more})


def test_waiting_needs_a_number_of_ranks():
    with pytest.raises(ConfigError, match=r"wait_for_machines_s must be 0 without"):
        load_config("body", overrides={"scaling.wait_for_machines_s": 5})


def test_machines_are_asked_for_until_they_are_there_and_no_longer(monkeypatch):
    asked, there = [], [NodeResources(0.0)]
    monkeypatch.setattr("metro_ray.cluster.machines._ask", asked.append)
    monkeypatch.setattr("metro_ray.cluster.machines._LOOK_EVERY_S", 0.0)

    def nodes():
        if len(asked) == 1 and len(there) < 2:
            there.append(NodeResources(96.0, 8.0))
            return there[:1]
        return there

    config = wanting(**{"scaling.wait_for_machines_s": 60, "scaling.min_train_workers": 1})
    with plan_with_machines(config, nodes) as plan:
        assert (plan.train_workers, plan.gpus_per_worker) == (8, 1)
        assert asked == [[{"CPU": 1, "GPU": 1}] * 8]
    assert asked[1:] == [[]]


def test_when_nobody_comes_the_run_takes_what_is_there_or_is_refused(monkeypatch):
    monkeypatch.setattr("metro_ray.cluster.machines._ask", lambda bundles: None)
    monkeypatch.setattr("metro_ray.cluster.machines._LOOK_EVERY_S", 0.0)
    config = wanting(**{"scaling.wait_for_machines_s": 0.01, "scaling.min_train_workers": 2})
    with plan_with_machines(config, lambda: [NodeResources(24.0, 2.0)]) as plan:
        assert plan.train_workers == 2
    config = wanting(**{"scaling.wait_for_machines_s": 0.01})
    refused = pytest.raises(ResourceError, match="8 ranks with a GPU each, but the cluster has 2")
    with refused, plan_with_machines(config, lambda: [NodeResources(24.0, 2.0)]):
        pass


@pytest.fixture
def autoscaled_head(tmp_path_factory):
    """A head that starts (pretended) machines with 8 GPUs as they are asked for."""
    folder = Path(f"/tmp/mra-{os.getpid()}")
    folder.mkdir()
    port, dashboard, client = free_ports(3)
    config = {
        "cluster_name": "fake",
        "max_workers": 3,
        "idle_timeout_minutes": 1,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": f"127.0.0.1:{port}",
            "launch_multiple": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "gpu_8": {
                "resources": {"CPU": 96, "GPU": 8},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 3,
            },
        },
        "head_node_type": "ray.head.default",
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{f"{who}setup_commands": [] for who in ("", "head_", "worker_")},
        **{f"{who}_start_ray_commands": [] for who in ("head", "worker")},
        **{key: [] for key in ("initialization_commands", "cluster_synced_files")},
        **{key: [] for key in ("rsync_exclude", "rsync_filter")},
        "file_mounts_sync_continuously": False,
        "upscaling_speed": 1.0,
    }
    (folder / "fake.yaml").write_text(yaml.safe_dump(config))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "of-this-test",
        "RAY_TMPDIR": str(folder),
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    log = (folder / "head.log").open("w")
    head = subprocess.Popen(
        [
            *(Path(sys.executable).parent / "ray", "start", "--head", "--block", "--num-cpus=0"),
            *("--node-ip-address=127.0.0.1", f"--port={port}", f"--dashboard-port={dashboard}"),
            *(f"--ray-client-server-port={client}", "--object-store-memory=100000000"),
            *(f"--autoscaling-config={folder / 'fake.yaml'}", "--disable-usage-stats"),
        ],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_for(port, head, folder / "head.log")
        yield f"127.0.0.1:{port}", environment
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(timeout=60)
        log.close()
        stop_processes_of(folder)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(port, head, log):
    """Until the head listens; Ray's client would end the process that cannot reach it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and head.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def stop_processes_of(folder):
    """Machines of the provider outlive the head: end what was started with this folder."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            ours = str(folder).encode() in command.read_bytes()
        except OSError:
            continue
        if ours:
            os.kill(int(command.parent.name), signal.SIGKILL)


@pytest.mark.ray
@pytest.mark.slow
def test_an_autoscaler_starts_the_machines_that_a_run_asks_for(autoscaled_head):
    address, environment = autoscaled_head
    deadline = time.monotonic() + 300
    while True:
        done = subprocess.run(
            [sys.executable, "-c", DRIVER],
            env=environment | {"RAY_ADDRESS": address},
            capture_output=True,
            text=True,
            timeout=400,
        )
        if done.returncode == 0 or "no Ray cluster answers" not in done.stderr:
            break
        assert time.monotonic() < deadline, done.stderr  # the head is still starting
    assert done.returncode == 0, done.stderr
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert told["plan"] == "16 1"
    assert told["machines"] == "2"
