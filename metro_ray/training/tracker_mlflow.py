"""A run at MLflow (extra `mlflow`): settings as parameters, numbers as metrics by step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_ray.errors import ConfigError

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig

_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_MOST_AT_ONCE = 100
_LONGEST = 5000


class MlflowTracker:
    """Implements `trackers.Tracker` with MLflow's client."""

    def start(self, config: TrainConfig, settings: Mapping[str, Any], run_id: str | None) -> str:
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]
        from mlflow.entities import Param  # pyright: ignore[reportMissingImports]

        self._client = MlflowClient()
        folder = Path(config.run.output_dir)
        if run_id is None:
            name = config.run.experiment
            experiment = self._client.get_experiment_by_name(name)
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                raise ConfigError(f"the MLflow experiment {name} is deleted: choose run.experiment")
            experiment_id = (
                self._client.create_experiment(name)
                if experiment is None
                else experiment.experiment_id
            )
            run = self._client.create_run(experiment_id, run_name=folder.name)
            run_id = str(run.info.run_id)
        self._run_id = run_id
        self._client.update_run(run_id, status="RUNNING")
        self._client.set_tag(run_id, "output_dir", str(folder))
        known = self._client.get_run(run_id).data.params
        new = [
            Param(name, str(value)[:_LONGEST])
            for name, value in settings.items()
            if name not in known
        ]
        for start in range(0, len(new), _MOST_AT_ONCE):
            self._client.log_batch(run_id, params=new[start : start + _MOST_AT_ONCE])
        for name, before in known.items():  # a parameter cannot change, the settings of a run can
            if name in settings and str(settings[name])[:_LONGEST] != before:
                self._client.set_tag(run_id, name, str(settings[name]))
        return run_id

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        for start in range(0, len(metrics), _MOST_AT_ONCE):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _MOST_AT_ONCE])

    def finish(self, numbers: Mapping[str, float], texts: Mapping[str, str], status: str) -> None:
        self.log(numbers, 0)
        for name, text in texts.items():
            self._client.set_tag(self._run_id, name, text)
        self._client.set_terminated(self._run_id, _STATUS[status])
