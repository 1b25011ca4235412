"""When a run is asked to stop for machines that joined, and whose stop it was."""

import signal
import time

import pytest

from metro_ray.cluster import growth as growth_module
from metro_ray.cluster.growth import Growth, growth_watched
from metro_ray.cluster.resources import NodeResources, plan_resources
from metro_ray.cluster.stop import StopFile, stop_file_on_sigterm
from metro_ray.config.load import load_config
from metro_ray.errors import ResourceError

ONE = NodeResources(3.0, 0.0)


@pytest.fixture
def config():
    return load_config(
        "body",
        overrides={
            "run.device": "cpu",
            "scaling.train_workers": 2,
            "scaling.min_train_workers": 1,
            "scaling.cpus_per_worker": 2.0,
        },
    )


@pytest.fixture
def nodes(monkeypatch):
    """The machines that the cluster has; all of them see everything."""
    there = [ONE]
    monkeypatch.setattr(growth_module, "replan", lambda config: plan_resources(there, config))
    monkeypatch.setattr(growth_module, "require_shared_storage", lambda config, plan: None)
    return there


def test_a_machine_counts_when_it_is_seen_twice_in_a_row(config, nodes):
    growth = Growth(config, plan_resources(nodes, config))
    assert not growth.look()
    nodes.append(ONE)
    assert not growth.look()
    nodes.pop()
    assert not growth.look()
    nodes.append(ONE)
    assert not growth.look()
    assert growth.found is None
    assert growth.look()
    assert growth.found == 2
    assert growth.reason == "machines joined: 1 -> 2 ranks"


def test_a_machine_without_the_folder_is_told_of_once(config, nodes, monkeypatch, caplog):
    def refuse(config, plan):
        raise ResourceError("node 10.0.0.2 does not see run.output_dir")

    growth = Growth(config, plan_resources(nodes, config))
    monkeypatch.setattr(growth_module, "require_shared_storage", refuse)
    nodes.append(ONE)
    assert not any(growth.look() for _ in range(4))
    [record] = caplog.records
    assert "stays at 1 rank(s): node 10.0.0.2 does not see" in record.getMessage()


def test_a_look_that_fails_is_not_the_last(config, nodes, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(growth_module, "_LOOK_EVERY_S", 0.01)
    looks = []

    def flaky(config):
        looks.append(1)
        if len(looks) < 4:
            raise ConnectionError("the head does not answer")
        return plan_resources(nodes, config)

    plan = plan_resources(nodes, config)
    monkeypatch.setattr(growth_module, "replan", flaky)
    nodes.append(ONE)
    stop = StopFile(tmp_path / "stop")
    with growth_watched(config, plan, stop) as growth:
        for _ in range(500):
            if stop.path.exists():
                break
            time.sleep(0.01)
    assert growth.found == 2
    [record] = [r for r in caplog.records if "could not look" in r.getMessage()]
    assert "the head does not answer" in record.getMessage()


@pytest.mark.parametrize("is_elastic", [True, False])
def test_only_an_elastic_run_is_asked_to_stop(config, nodes, tmp_path, monkeypatch, is_elastic):
    monkeypatch.setattr(growth_module, "_LOOK_EVERY_S", 0.01)
    plan = plan_resources(nodes, config)
    if not is_elastic:
        config = load_config("body", overrides={"run.device": "cpu"})
    nodes.append(ONE)
    stop = StopFile(tmp_path / "stop")
    with growth_watched(config, plan, stop) as growth:
        for _ in range(500 if is_elastic else 20):
            if stop.path.exists():
                break
            time.sleep(0.01)
    assert stop.path.exists() == is_elastic
    assert (growth.found == 2) == is_elastic
    stop.withdraw()
    assert not stop.path.exists()


def test_sigterm_stays_when_growth_takes_its_request_back(tmp_path):
    with stop_file_on_sigterm(tmp_path / "stop") as stop:
        stop.path.touch()  # growth asks first
        signal.raise_signal(signal.SIGTERM)
        assert stop.by_signal
        stop.withdraw()
        assert stop.path.exists()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
