"""Change the weights of a service that runs: other checkpoints, a candidate with a share, and back.

Only the `user_config` of a deployment is changed, so Serve restarts nothing: each replica loads the
weights beside those that answer, and swaps when they are warm.
"""

from __future__ import annotations

import copy
import json
import time
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple

from metro_ray.errors import ConfigError, ResourceError
from metro_ray.serve.schema import Task
from metro_ray.serve.settings import ModelChoice, read_args, read_choice

_BUILDER = "metro_ray.serve.app:build_app"
_POLL_S, _IN_A_ROW = 0.3, 5


def with_choice(
    config: Mapping[str, Any], task: Task, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """The configuration of a service with other weights.

    Args:
        config: as `serve deploy` reads it; is not changed.
        task: whose weights.
        changes: fields of `ModelChoice`; others stay as they are.

    Raises:
        ConfigError: the task is not served there, or a field is wrong.
    """
    changed = copy.deepcopy(dict(config))
    application = _application(changed, task)
    deployments = application.setdefault("deployments", [])
    named: list[dict[str, Any]] = [each for each in deployments if each["name"] == task]
    if not named:
        named = [{"name": task}]
        deployments += named
    deployment = named[0]
    now = deployment.get("user_config") or read_args(application["args"]).models[task].choice
    plain = now.model_dump(mode="json") if isinstance(now, ModelChoice) else dict(now)
    choice = read_choice(plain | dict(changes))
    deployment["user_config"] = choice.model_dump(mode="json")
    return changed


def _application(config: dict[str, Any], task: Task) -> dict[str, Any]:
    ours = [each for each in config["applications"] if each["import_path"] == _BUILDER]
    serving = [each for each in ours if each.get("args", {}).get(task)]
    if not serving:
        names = ", ".join(each["name"] for each in config["applications"]) or "none"
        raise ConfigError(
            f"no application of this program serves {task}; applications there: {names}"
        )
    return serving[0]


def deployed(details: Mapping[str, Any]) -> dict[str, Any]:
    """What `serve deploy` was last given, from the details that the dashboard tells.

    Raises:
        ConfigError: applications that were not deployed in this way, and would be lost.
    """
    others = [
        name
        for name, application in details["applications"].items()
        if not application.get("deployed_app_config")
    ]
    if others:
        raise ConfigError(
            f"{', '.join(others)} came from Python (serve.run) and not from a configuration; start "
            "it with `metro-ray serve` or `serve deploy` to change it while it runs"
        )
    return {
        "proxy_location": details["proxy_location"],
        "http_options": {name: details["http_options"][name] for name in ("host", "port")},
        "applications": [
            application["deployed_app_config"] for application in details["applications"].values()
        ],
    }


def swap(dashboard: str, task: Task, changes: Mapping[str, Any]) -> str:
    """Change the weights of what is deployed on a cluster.

    Args:
        dashboard: URL of the cluster's dashboard.
        task: whose weights.
        changes: fields of `ModelChoice`.

    Returns:
        URL of the service, as Serve listens on it.

    Raises:
        ConfigError: the task is not served there, or a field is wrong.
        ResourceError: no cluster answers, or it wants another token.
    """
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
    from ray.exceptions import AuthenticationError

    try:
        client = ServeSubmissionClient(dashboard)
        details = client.get_serve_details()
        client.deploy_applications(with_choice(deployed(details), task, changes))
    except (AuthenticationError, ConnectionError, RuntimeError) as error:
        raise ResourceError(
            f"no Ray cluster takes this at {dashboard}: {error}. Name its dashboard with "
            "--dashboard, and give the token it was started with (RAY_AUTH_MODE=token, "
            "RAY_AUTH_TOKEN)"
        ) from error
    http = details["http_options"]
    return f"http://{http['host']}:{http['port']}"


class Answering(NamedTuple):
    """What a service says about a task."""

    versions: tuple[str, ...] = ()
    """That answer; none while the service does not."""
    problem: str | None = None
    """Why the last change of weights did not happen."""


def answering(url: str, task: Task, key: str | None) -> Answering:
    """What a service says about a task.

    Args:
        url: of the service.
        task: which.
        key: API key, where the service wants one.
    """
    request = urllib.request.Request(f"{url}/v1/models")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            told = json.load(response)
    except OSError:
        return Answering()
    versions = tuple(model["version"] for model in told["models"] if model["task"] == task)
    return Answering(versions, told.get("problems", {}).get(task))


def wait_for(
    url: str, task: Task, version: str, checkpoint: str, key: str | None, timeout_s: float
) -> None:
    """Wait until a version answers, several times in a row since replicas take turns.

    Args:
        url: of the service.
        task: which.
        version: to wait for.
        checkpoint: the name that it was asked for with.
        key: API key, where the service wants one.
        timeout_s: how long.

    Raises:
        ResourceError: it cannot be loaded, or does not answer in time.
    """
    end = time.monotonic() + timeout_s
    in_a_row = 0
    while in_a_row < _IN_A_ROW:
        found = answering(url, task, key)
        names, _, reason = (found.problem or "").partition(": ")
        if checkpoint in names:
            raise ResourceError(
                f"a replica cannot load {checkpoint}: {reason}. What answered before goes on "
                "answering"
            )
        if time.monotonic() > end:
            raise ResourceError(
                f"{version} of {task} does not answer at {url} after {timeout_s:.0f} s: the log of "
                "the replicas says why. What answered before goes on answering"
            )
        in_a_row = in_a_row + 1 if version in found.versions else 0
        time.sleep(_POLL_S)
