"""Steps whose loss or gradient is not finite: left out on all ranks alike, counted, explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from metro_ray.errors import TrainingError
from metro_ray.training.logs import METRO

if TYPE_CHECKING:
    from metro_ray.data.sample import Batch
    from metro_ray.training.context import WorkerContext
    from metro_ray.training.step import StepLosses

_SHOWN = 8
_LABELS = ("keypoints_2d", "joints_3d", "pose", "betas", "pixel_gain")


class Buffers:
    """BatchNorm statistics as they were before a step: a forward pass changes them at once.

    One copy a kind of number instead of one a buffer, of which there are hundreds.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module) -> None:
        self._kinds: dict[torch.dtype, list[Tensor]] = {}
        for buffer in model.buffers():
            self._kinds.setdefault(buffer.dtype, []).append(buffer)
        self._before = {
            kind: torch.cat([buffer.reshape(-1) for buffer in buffers])
            for kind, buffers in self._kinds.items()
        }

    @torch.no_grad()
    def put_back(self) -> None:
        """Undo what happened to them."""
        for kind, buffers in self._kinds.items():
            parts = self._before[kind].split([buffer.numel() for buffer in buffers])
            for buffer, part in zip(buffers, parts, strict=True):
                buffer.copy_(part.view_as(buffer))


class _Report(NamedTuple):
    """What one rank knows about a step that was left out."""

    losses: StepLosses
    rows: list[str]
    broken: list[str]


class NonFiniteGuard:
    """Counts the steps that were left out and stops a run of which nothing else is left.

    Args:
        worker: Of this rank; every rank makes the same calls.
        limit: Steps in a row that may be left out (`optim.max_nonfinite_steps`).
    """

    def __init__(self, worker: WorkerContext, limit: int) -> None:
        self._worker, self._limit = worker, limit
        self.skipped = 0
        """Steps left out since the start of the run."""
        self.in_a_row = 0
        """Steps left out since the last one that counted."""

    def check(self, losses: StepLosses, window: Sequence[Batch], *, step: int, lr: float) -> None:
        """Take note of a step. Collective where it was left out.

        Raises:
            TrainingError: One more than the limit in a row; names the rows of this step.
        """
        if losses.applied:
            self.in_a_row = 0
            return
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        reports = self._worker.gather(_Report(losses, *_rows(window)))
        ours = next((r.losses for r in reports if not r.losses.is_finite), losses)
        rows = _to_blame(reports)
        terms = ", ".join(f"{name} {value:.4g}" for name, value in ours.terms.items())
        found = (
            f"step {step} is not finite: total {ours.total:.4g} ({terms}; gradient norm "
            f"{ours.grad_norm:.4g}; lr {lr:.3g}); {_listed(rows)}"
        )
        if self.in_a_row <= self._limit:
            if self._worker.rank == 0:  # the others would say the same
                counts = (self.in_a_row, self.skipped)
                METRO.warning("%s. It changes nothing; %d in a row, %d in all", found, *counts)
            return
        raise TrainingError(
            f"{found}. That makes {self.in_a_row} in a row, and optim.max_nonfinite_steps allows "
            f"{self._limit}. The weights are those before them. Look at the labels of these rows; "
            "or try a smaller optim.lr, optim.clip_grad_norm, optim.precision fp32, or weights to "
            "start from (model.backbone_weights, run.resume_checkpoint)"
        )


def _rows(window: Sequence[Batch]) -> tuple[list[str], list[str]]:
    """Names of the valid rows, and of those among them with a label that is not finite."""
    names, broken = [], []
    for batch in window:
        columns = [getattr(batch, name).flatten(1).isfinite().all(dim=1) for name in _LABELS]
        is_fine = torch.stack(columns).all(dim=0)
        for row in batch.valid.nonzero()[:, 0].tolist():
            name = batch.keys[row] if batch.keys else f"row {int(batch.row_id[row])}"
            names.append(name)
            if not is_fine[row]:
                broken.append(name)
    return names, broken


def _to_blame(reports: Sequence[_Report]) -> list[str]:
    """Rows with broken labels; else those of the ranks whose loss is not finite; else all."""
    if broken := [name for report in reports for name in report.broken]:
        return broken
    lost = [report for report in reports if not report.losses.is_finite]
    return [name for report in lost or reports for name in report.rows]


def _listed(rows: Sequence[str]) -> str:
    if not rows:
        return "no rank had a labelled row"
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"its rows: {', '.join(rows[:_SHOWN])}{more}"
