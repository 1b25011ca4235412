"""A run at Weights & Biases (extra `wandb`): its files are in the run's folder until they are sent.

Without an account WANDB_MODE=offline keeps them there; `wandb sync` sends them later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig

_EXIT_CODES = {"finished": 0, "stopped": 0, "failed": 1}


class WandbTracker:
    """Implements `trackers.Tracker` with wandb's run."""

    def start(self, config: TrainConfig, settings: Mapping[str, Any], run_id: str | None) -> str:
        import wandb  # pyright: ignore[reportMissingImports]

        folder = Path(config.run.output_dir)
        self._run = wandb.init(
            project=config.run.experiment,
            name=folder.name,
            id=run_id,
            resume="allow" if run_id else None,
            dir=folder,
            config=dict(settings),
            allow_val_change=True,
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        # Steps go back when a run goes on from a checkpoint, which wandb's own step cannot.
        self._run.define_metric("*", step_metric="step")
        return str(self._run.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def finish(self, numbers: Mapping[str, float], texts: Mapping[str, str], status: str) -> None:
        self._run.summary.update({**numbers, **texts})
        self._run.finish(exit_code=_EXIT_CODES[status])
