"""Ending a run when its machines are taken away: SIGTERM to the driver, a checkpoint, a clean end.

The driver cannot reach into the ranks' loops, so it leaves a file in the run's folder, which all
nodes share; rank 0 looks for it and all ranks stop after the same step.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class StopFile:
    """What the ranks look for, and who asked."""

    path: Path
    by_signal: bool = False
    """Whether SIGTERM came."""

    def withdraw(self) -> None:
        """Take a request back that was not SIGTERM's."""
        self.path.unlink(missing_ok=True)
        if self.by_signal:
            self.path.touch()


@contextmanager
def stop_file_on_sigterm(path: Path) -> Iterator[StopFile]:
    """While the context lasts, SIGTERM writes `path`; a second one ends the process at once.

    Outside the main thread, where Python allows no handlers, SIGTERM is left alone.
    """
    stop = StopFile(path)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stop.by_signal:
            raise KeyboardInterrupt
        stop.by_signal = True
        path.touch()
        _LOG.warning(
            "SIGTERM: the run ends after its step, or its batch of a validation, with a checkpoint "
            "where it trains; a second SIGTERM ends it at once"
        )

    before = signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
