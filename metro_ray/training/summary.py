"""RunSummary: what a run has come to so far, for everything that is written about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from metro_ray.config.schema import TrainConfig
    from metro_ray.training.checkpoint_meta import RunStart
    from metro_ray.training.recorder import CsvRow


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Of rank 0, at the end of an epoch or of the run."""

    config: TrainConfig
    metrics: dict[str, float]
    """Of the last validation; empty without one."""
    epochs: int
    """That are complete."""
    steps: int
    starts: Sequence[RunStart]
    """How the run began, and each time that it went on."""
    seconds: float
    """Since the start of the run, earlier parts of it included."""
    trained: dict[str, float]
    """`train/*` of all steps of the run, those before an interruption too; empty without any."""
    source_names: tuple[str, ...]
    """Sources that `trained` tells apart."""
    world_size: int
    device: torch.device
    bad_rows: dict[str, Any]
    """Of all ranks and of earlier parts of the run, as `list_bad_rows` has them."""
    mesh_reason: str | None
    rows: Sequence[CsvRow] = ()
    """Of `Recorder.rows`."""

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return Path(self.config.run.output_dir)
