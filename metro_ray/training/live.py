"""`progress.json`: where a run is this second, for whoever watches it from another process.

Rank 0 writes it at most once a second; `cluster.display` shows it on the driver's terminal.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metro_ray.training.progress import max_memory_mib

if TYPE_CHECKING:
    from metro_ray.training.context import WorkerContext
    from metro_ray.training.meter import RunMeter
    from metro_ray.training.position import Position

FILE = "progress.json"
_EVERY_S = 1.0

Phase = Literal["training", "validating", "finishing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveState:
    """A moment of a run, as rank 0 sees it."""

    phase: Phase
    epoch: int
    """Complete epochs."""
    epochs: int
    """That are wanted."""
    step: int
    """Steps so far, as they are counted in logs."""
    done_steps: int
    """The same by the schedule."""
    all_steps: int
    """Of the schedule."""
    loss: float | None
    """Of the last step; None where it was not finite."""
    images_per_second: float
    """Of all ranks, since the state before."""
    data_wait_share: float
    """Part of the time since the state before that went into waiting for data."""
    seconds_left: float | None
    memory_mib: float


class LiveProgress:
    """Writes the states of a run; does nothing on ranks above 0."""

    def __init__(self, folder: Path, worker: WorkerContext, *, epochs: int) -> None:
        self._path, self._worker, self._epochs = folder / FILE, worker, epochs
        self._enabled = worker.rank == 0
        self._last: LiveState | None = None
        self._written_at = -math.inf
        self._before = (0.0, 0.0, 0)

    def training(self, position: Position, meter: RunMeter, loss: float) -> None:
        """After each step."""
        now = time.monotonic()
        if not self._enabled or now - self._written_at < _EVERY_S:
            return
        total = meter.total
        sums = (total.seconds, total.wait_seconds, total.num_images)
        seconds, waited, images = (new - old for new, old in zip(sums, self._before, strict=True))
        self._before, self._written_at = sums, now
        left = max(0, position.all_steps - position.on_schedule)
        self._write(
            LiveState(
                phase="training",
                epoch=position.epoch,
                epochs=self._epochs,
                step=position.step,
                done_steps=position.on_schedule,
                all_steps=position.all_steps,
                loss=loss if math.isfinite(loss) else None,
                images_per_second=self._worker.world_size * images / max(seconds, 1e-9),
                data_wait_share=waited / max(seconds, 1e-9),
                seconds_left=left * total.seconds / max(total.num_steps, 1),
                memory_mib=max_memory_mib(self._worker.device),
            )
        )

    def enter(self, phase: Phase, position: Position) -> None:
        """Something else than training begins; loss and speed stay those of the last step."""
        if self._last is not None:
            at = {"epoch": position.epoch, "step": position.step}
            done = position.on_schedule
            self._write(replace(self._last, phase=phase, done_steps=done, **at))
            self._written_at = -math.inf

    def _write(self, state: LiveState) -> None:
        self._last = state
        partial = self._path.with_name(f".{FILE}.partial")
        partial.write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")
        partial.replace(self._path)


def read_live(folder: Path) -> LiveState | None:
    """The last state of the run in `folder`; None where there is none yet."""
    try:
        return LiveState(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
