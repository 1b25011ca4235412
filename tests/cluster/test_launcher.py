"""cluster.yaml: Ray's own validation, and the promises that its comments make."""

from pathlib import Path

import pytest
import yaml

from metro_ray.cluster.resources import NodeResources, plan_resources
from metro_ray.config.load import load_config

LAUNCHER = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture
def launcher():
    return yaml.safe_load(LAUNCHER.read_text())


def test_ray_accepts_the_launcher_file(launcher):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(launcher))
    launcher["head_node_typo"] = "head"
    with pytest.raises(Exception, match="head_node_typo"):
        validate_config(prepare_config(launcher))


def test_its_first_nodes_run_one_rank_per_gpu_and_leave_cpus_for_data(launcher):
    nodes = []
    for name, kind in launcher["available_node_types"].items():
        count = 1 if name == launcher["head_node_type"] else kind["min_workers"]
        nodes += [NodeResources(kind["resources"]["CPU"], kind["resources"]["GPU"])] * count
    plan = plan_resources(nodes, load_config("body"))
    assert (plan.train_workers, plan.gpus_per_worker, plan.concurrent_read_tasks) == (8, 1, 4)
    head = launcher["available_node_types"][launcher["head_node_type"]]["resources"]
    assert head["CPU"] == 0


def test_spot_machines_are_like_the_others_and_only_there_when_asked_for(launcher):
    kinds = launcher["available_node_types"]
    spot, steady = kinds["gpu_8_spot"], kinds["gpu_8"]
    assert spot["min_workers"] == 0
    assert spot["resources"] == steady["resources"]
    market = spot["node_config"].pop("InstanceMarketOptions")
    assert market == {"MarketType": "spot"}
    assert spot["node_config"] == steady["node_config"]
    most = sum(kind.get("max_workers", 0) for kind in kinds.values())
    assert most == launcher["max_workers"]


def test_every_node_gets_the_token_and_the_package(launcher):
    assert "--env RAY_AUTH_MODE=token" in launcher["docker"]["run_options"]
    assert "/home/ray/.ray/auth_token" in launcher["file_mounts"]
    source = next(iter(launcher["file_mounts"]))
    assert any(f"{source}[ray,open,plots]" in command for command in launcher["setup_commands"])
    assert "chmod 600 /home/ray/.ray/auth_token" in launcher["setup_commands"]
    assert "0.0.0.0" not in LAUNCHER.read_text()
