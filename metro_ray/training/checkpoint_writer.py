"""CheckpointWriter: checkpoints of a run, written while training goes on, copied to remote storage.

A step waits only while weights and optimizer state are copied to the CPU's memory; files are
written by a thread. At most one checkpoint is being written: the next waits for it. What a kill
interrupts was never `last` (see `checkpoint.py`), so the run goes on from the one before.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from metro_ray.errors import StorageError
from metro_ray.training.checkpoint import (
    Snapshot,
    reserve_name,
    take_snapshot,
    write_checkpoint,
)
from metro_ray.training.logs import METRO
from metro_ray.training.upload import RunUpload

if TYPE_CHECKING:
    import torch

    from metro_ray.training.checkpoint_meta import BestEntry, CheckpointMeta


class CheckpointWriter:
    """Writes the checkpoints of a run; call `close` at its end.

    Args:
        root: The run's checkpoint folder.
        keep: How many of the best to keep beside the last.
        in_background: Write in a thread; costs the memory of one checkpoint.
        upload: Where each checkpoint is copied to, if anywhere.
    """

    def __init__(
        self, root: Path, *, keep: int, in_background: bool, upload: RunUpload | None = None
    ) -> None:
        self._root, self._keep = root, keep
        self._in_background, self._upload = in_background, upload
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.best: tuple[BestEntry, ...] = ()
        """The best checkpoints so far; assign it when a run continues."""

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        meta: CheckpointMeta,
        *,
        average: nn.Module | None = None,
        metric: tuple[str, float] | None = None,
    ) -> Path:
        """Start writing a checkpoint; see `checkpoint.save_checkpoint` for the arguments.

        Returns:
            Its folder, which is there when it is whole.

        Raises:
            OSError: The checkpoint before this one could not be written.
        """
        self.wait()
        name = reserve_name(self._root, meta)
        snapshot = take_snapshot(model, optimizer, average, copy=self._in_background)
        arguments = (name, snapshot, meta, metric)
        if self._in_background:
            self._thread = threading.Thread(
                target=self._run, args=arguments, name="checkpoint-writer"
            )
            self._thread.start()
        else:
            self._write(*arguments)
        return self._root / name

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            OSError: The checkpoint could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(
        self, name: str, snapshot: Snapshot, meta: CheckpointMeta, metric: tuple[str, float] | None
    ) -> None:
        try:
            self._write(name, snapshot, meta, metric)
        except BaseException as error:  # noqa: BLE001 - raised where the run waits for the thread
            self._error = error

    def _write(
        self, name: str, snapshot: Snapshot, meta: CheckpointMeta, metric: tuple[str, float] | None
    ) -> None:
        written = write_checkpoint(
            self._root, name, snapshot, meta, best=self.best, metric=metric, keep=self._keep
        )
        self.best = written.best
        METRO.info("Save checkpoint to %s", self._root / name)
        if self._upload is None:
            return
        try:
            self._upload.checkpoints(self._root)
        except StorageError as error:
            METRO.warning("checkpoint %s is on this machine only: %s", name, error)
