"""One trial: a whole Ray Train run, started from within Ray Tune.

Tune's own process of a trial only waits for it and holds no CPU, so that trials never wait for the
CPUs of their own ranks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ray import tune
from ray.train import Checkpoint
from ray.train.v2._internal.execution.context import TrainRunContext
from ray.tune.integration.ray_train import TuneReportCallback

from metro_ray.cluster.connect import ray_variables, set_where_unset
from metro_ray.cluster.preflight import CheckedRun
from metro_ray.cluster.resources import ResourcePlan
from metro_ray.cluster.train import fit_run
from metro_ray.config.load import from_dict
from metro_ray.config.sweep import METRIC
from metro_ray.errors import (
    AssetError,
    AssetNotFoundError,
    CheckpointError,
    ConfigError,
)

RESOURCES = {"CPU": 0.0, "memory": 1.0}
"""Of Tune's process: nothing that a rank or a read task needs."""
_HOPELESS = (ConfigError, CheckpointError, AssetError, AssetNotFoundError)
"""Errors that a second attempt would meet again."""


class EpochReport(TuneReportCallback):
    """Hands each epoch's validation to Tune; reports within an epoch are not its business."""

    def after_report(
        self,
        run_context: TrainRunContext,
        metrics: list[dict[str, Any]],
        checkpoint: Checkpoint | None,
    ) -> None:
        values = metrics[0]
        if METRIC in values:
            told = {"epoch": int(values["epoch"]), METRIC: values[METRIC]}
            super().after_report(run_context, [told], None)


def run_trial(setup: dict[str, Any]) -> None:
    """What Tune runs for a trial.

    Args:
        setup: `number` and `config` of the trial, with `donor` and `takeover` where it goes on
            from another's checkpoint; of the sweep `folder` (of the driver),
            `plan`, `mesh` and `mesh_reason`.
    """
    os.chdir(setup["folder"])  # relative names mean what they mean on the driver
    config = from_dict(setup["config"])
    run = CheckedRun(config, setup["mesh"], setup["mesh_reason"], stale_checkpoint=None)
    try:
        if setup.get("donor") is not None:
            from metro_ray.sweeps.adopt import adopt_checkpoint

            adopt_checkpoint(Path(setup["donor"]), Path(config.run.output_dir), setup["takeover"])
        with set_where_unset(ray_variables(config)):
            fit_run(run, ResourcePlan(**setup["plan"]), [EpochReport()])
    except _HOPELESS as error:
        tune.report({"error": str(error)})
