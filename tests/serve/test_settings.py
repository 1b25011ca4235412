"""Settings: typos are named, contradictions refused, every shipped configuration is valid."""

from pathlib import Path

import pytest
import yaml

from metro_ray.errors import ConfigError
from metro_ray.serve.settings import read_args, read_choice
from metro_ray.serve.swap import deployed, with_choice

CONFIGS = sorted((Path(__file__).parents[2] / "serve_configs").glob("*.yaml"))
BODY = {"body": {"checkpoint": "x"}}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, ["nothing to serve"]),
        ({"bodies": {}}, ["bodies", "unknown field", "body, hand"]),
        ({"body": {}}, ["body.checkpoint"]),
        ({"body": {"checkpoint": "x", "max_batch": 3}}, ["body.max_batch", "max_batch_size"]),
        ({"body": {"checkpoint": "x", "replicas": {"min": 1}}}, ["body.replicas.min", "min_replicas"]),
        ({"body": {"checkpoint": "x", "replicas": {"min_replicas": 3}}}, ["below min_replicas 3"]),
        ({"body": {"checkpoint": "x", "candidate_share": 0.5}}, ["no candidate"]),
        (BODY | {"limits": {"timeout_s": 0}}, ["limits.timeout_s"]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(args, words):
    with pytest.raises(ConfigError) as caught:
        read_args(args)
    assert all(word in str(caught.value) for word in words)


def test_a_user_config_is_checked_as_well():
    with pytest.raises(ConfigError, match="chekpoint"):
        read_choice({"chekpoint": "x"})


def test_there_is_a_configuration_for_each_shape():
    shapes = {name + where for name in ("body", "hand", "both") for where in ("", "-cpu")}
    assert {path.stem for path in CONFIGS} == shapes


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path):
    schema = pytest.importorskip("ray.serve.schema")
    from metro_ray.serve.app import build_app

    content = yaml.safe_load(path.read_text())
    config = schema.ServeDeploySchema.model_validate(content)
    assert config.http_options.host == "127.0.0.1"
    (application,) = config.applications
    assert application.import_path == "metro_ray.serve.app:build_app"
    build_app(application.args)


def test_only_the_weights_of_one_task_change():
    config = {
        "applications": [
            {"name": "other", "import_path": "x:y", "args": {"body": 1}},
            {
                "name": "metro_ray",
                "import_path": "metro_ray.serve.app:build_app",
                "args": {"body": {"checkpoint": "old", "follow_s": 9}, "hand": {"checkpoint": "h"}},
            },
        ]
    }
    changed = with_choice(config, "body", {"candidate": "new", "candidate_share": 0.1})
    (deployment,) = changed["applications"][1]["deployments"]
    assert deployment["name"] == "body"
    assert deployment["user_config"] == {
        "checkpoint": "old", "candidate": "new", "candidate_share": 0.1, "follow_s": 9,
    }  # fmt: skip
    assert "deployments" not in config["applications"][1]
    again = with_choice(changed, "body", {"candidate": None, "candidate_share": 0.0})
    assert again["applications"][1]["deployments"][0]["user_config"]["candidate"] is None
    with pytest.raises(ConfigError, match="candidate"):
        with_choice(config, "body", {"candidate_share": 0.5})
    with pytest.raises(ConfigError, match="serves hand"):
        with_choice({"applications": config["applications"][:1]}, "hand", {})


def test_applications_that_would_be_lost_are_named():
    details = {"applications": {"theirs": {"deployed_app_config": None}}}
    with pytest.raises(ConfigError, match="theirs"):
        deployed(details)
