"""A run on several (simulated) machines that loses one in the middle of an epoch."""

import csv
import json
import os
import threading
import time

import pytest

from metro_ray.cluster.train import run_train

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def two_machines(monkeypatch):
    """A cluster of two nodes; yields it and the node that may be taken away."""
    import ray
    from ray.cluster_utils import Cluster

    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3})
    other = cluster.add_node(num_cpus=3)
    ray.init(address=cluster.address, logging_level="ERROR")
    try:
        yield cluster, other
    finally:
        ray.shutdown()
        cluster.shutdown()


def steps(run):
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with path.open() as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["kind"] == "train"]


def test_a_lost_machine_costs_the_steps_since_the_last_checkpoint(
    two_machines, make_config, tmp_path
):
    cluster, other = two_machines
    run = tmp_path / "run"
    config = make_config(
        **{
            "scaling.train_workers": 2,
            "scaling.min_train_workers": 1,
            "scaling.cpus_per_worker": 2.0,
            "scaling.start_timeout_s": 30.0,
            "optim.epochs": 2,
            "optim.per_gpu_batch_size": 2,
            "run.log_every": 1,
            "run.checkpoint_every": 2,
            "run.output_dir": str(run),
        }
    )
    outcome = {}

    def train():
        try:
            outcome["summary"] = run_train(config)
        except BaseException as error:  # noqa: BLE001 - told by the test
            outcome["error"] = error

    thread = threading.Thread(target=train)
    thread.start()
    deadline = time.monotonic() + 240
    while len(steps(run)) < 5 and time.monotonic() < deadline and thread.is_alive():
        time.sleep(0.05)
    cluster.remove_node(other, allow_graceful=False)
    thread.join(timeout=300)
    assert "error" not in outcome, outcome
    result = outcome["summary"].result
    assert result["world_size"] == 1
    assert result["epochs"] == 2
    log = (run / "log.txt").read_text()
    assert "Continuing from" in log
    counted = steps(run)
    assert counted == list(range(1, counted[-1] + 1))
    assert json.loads((run / "result.json").read_text())["val/num_rows"] == 23
