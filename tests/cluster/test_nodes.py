"""A run on several (simulated) machines: ranks on both, a machine lost, folders that are not shared."""

import csv
import json
import shutil
import threading
import time

import pytest
from object_store import s3_bucket

from metro_ray.cluster import growth, shared_storage
from metro_ray.cluster.resources import ResourcePlan
from metro_ray.cluster.train import run_train
from metro_ray.errors import ResourceError
from metro_ray.training.upload import RunUpload

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def bucket():
    """An object store; before the cluster, whose machines have its keys."""
    with s3_bucket("runs") as url:
        yield url


def steps(run):
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with path.open() as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["kind"] == "train"]


def run_in_thread(config):
    """A run that goes on while the test does something to its machines; what it comes to."""
    outcome = {}

    def train():
        try:
            outcome["summary"] = run_train(config)
        except BaseException as error:  # noqa: BLE001 - told by the test
            outcome["error"] = error

    thread = threading.Thread(target=train)
    thread.start()
    return thread, outcome


def wait_for_step(run, number, thread):
    """Until a run has made so many steps, or has ended."""
    deadline = time.monotonic() + 240
    while len(steps(run)) < number and time.monotonic() < deadline and thread.is_alive():
        time.sleep(0.05)


def test_four_ranks_on_two_machines_train_as_one(two_machines, make_config, tmp_path):
    run = tmp_path / "run"
    result = run_train(
        make_config(
            **{
                "scaling.train_workers": 4,
                "scaling.cpus_per_worker": 1.0,
                "optim.epochs": 1,
                "run.output_dir": str(run),
            }
        )
    ).result
    assert result["world_size"] == 4
    assert result["val/num_rows"] == 23
    assert not list(run.glob(".seen-by-all-*"))


def test_a_folder_that_a_machine_does_not_see_is_named(two_machines, make_config, monkeypatch):
    """The nodes are one machine here, so a file that only the driver sees is played: it is deleted."""
    config = make_config(**{"run.output_dir": "/tmp"})
    plan = ResourcePlan(
        train_workers=2,
        cpus_per_worker=1.0,
        gpus_per_worker=0,
        data_task_cpus=1.0,
        concurrent_read_tasks=1,
    )
    shared_storage.require_shared_storage(config, plan)
    needed = shared_storage._needed

    def unseen(config, marker):
        paths = needed(config, marker)
        return [path._replace(path=str(marker.parent / "gone" / marker.name)) for path in paths[:1]]

    monkeypatch.setattr(shared_storage, "_needed", unseen)
    words = r"node [\d.]+ does not see what this machine writes to run\.output_dir .*NFS"
    with pytest.raises(ResourceError, match=words):
        shared_storage.require_shared_storage(config, plan)
    monkeypatch.setattr(
        shared_storage,
        "_needed",
        lambda config, marker: [shared_storage.NeededPath("data.train_yaml", "/gone.yaml", False)],
    )
    with pytest.raises(ResourceError, match=r"does not see data\.train_yaml /gone\.yaml.*s3://"):
        shared_storage.require_shared_storage(config, plan)


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
    thread, outcome = run_in_thread(config)
    wait_for_step(run, 5, thread)
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


def test_a_machine_that_comes_back_is_taken_in_after_a_checkpoint(
    two_machines, make_config, tmp_path, monkeypatch
):
    monkeypatch.setattr(growth, "_LOOK_EVERY_S", 1.0)
    cluster, other = two_machines
    cluster.remove_node(other)
    run = tmp_path / "run"
    config = make_config(
        **{
            "scaling.train_workers": 2,
            "scaling.min_train_workers": 1,
            "scaling.cpus_per_worker": 2.0,
            "optim.epochs": 5,
            "optim.per_gpu_batch_size": 2,
            "run.log_every": 1,
            "run.output_dir": str(run),
        }
    )
    thread, outcome = run_in_thread(config)
    wait_for_step(run, 5, thread)
    cluster.add_node(num_cpus=3)
    thread.join(timeout=600)
    assert "error" not in outcome, outcome
    result = outcome["summary"].result
    assert result["world_size"] == 2
    assert result["epochs"] == 5
    assert [start["world_size"] for start in result["starts"]] == [1, 2]
    assert result["starts"][1]["reason"] == "machines joined: 1 -> 2 ranks"
    counted = steps(run)
    assert counted == list(range(1, counted[-1] + 1))
    assert result["val/num_rows"] == 23


def test_a_folder_lost_with_its_machine_comes_back_from_the_object_store(
    bucket, two_machines, make_config, tmp_path, caplog
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
            "run.checkpoint_every": 4,
            "run.upload_to": f"{bucket}/night",
            "run.output_dir": str(run),
        }
    )
    thread, outcome = run_in_thread(config)
    upload, deadline = RunUpload(config.run.upload_to), time.monotonic() + 240
    while not upload.holds_run() and time.monotonic() < deadline and thread.is_alive():
        time.sleep(0.2)
    cluster.remove_node(other, allow_graceful=False)
    shutil.rmtree(run)
    thread.join(timeout=600)
    assert "error" not in outcome, outcome
    result = outcome["summary"].result
    assert result["epochs"] == 2
    assert result["world_size"] == 1
    assert f"{run} was lost; from {bucket}/night came checkpoint-" in caplog.text
    assert len(result["starts"]) > 1
    counted = steps(run)
    assert counted[0] > 4
    assert counted == list(range(counted[0], counted[-1] + 1))
