"""run_evaluate: measure a checkpoint on a data set, with the evaluation of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metro_ray.cluster.train import RunSummary, run_train
from metro_ray.errors import ConfigError
from metro_ray.evaluation.from_checkpoint import config_of_checkpoint

if TYPE_CHECKING:
    from metro_ray.config.schema import Kind


def run_evaluate(kind: Kind, given: Mapping[str, Any]) -> RunSummary:
    """Evaluate on all GPUs of the cluster, or on its CPUs: each row once, METRO's line printed.

    Args:
        kind: "body" or "hand".
        given: Settings by dotted key; those of the network are the checkpoint's.

    Raises:
        ConfigError: No checkpoint or no data set is given, or several views are asked for.
        MetroRayError: As `run_train`.
    """
    if given.get("data.val_yaml") is None:
        raise ConfigError("there is nothing to evaluate on: give --val_yaml a data set")
    config = config_of_checkpoint(kind, {**given, "eval.only": True}).config
    if config.eval.multiscale:
        raise ConfigError(
            "an evaluation looks at each row once: leave --multiscale_inference out, or run "
            f"jobs/predict_{kind}.py with it, which measures its fused predictions too"
        )
    return run_train(config)
