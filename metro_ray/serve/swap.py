"""Change the weights of a service that runs: other checkpoints, a candidate with a share, and back.

Only the `user_config` of a deployment is changed, so Serve restarts nothing: each replica loads the
weights beside those that answer, and swaps when they are warm.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from metro_ray.errors import ConfigError
from metro_ray.serve.schema import Task
from metro_ray.serve.settings import ModelChoice, read_args, read_choice

_BUILDER = "metro_ray.serve.app:build_app"


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
