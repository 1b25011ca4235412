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
from pathlib import Path
from types import FrameType

_LOG = logging.getLogger(__name__)


@contextmanager
def stop_file_on_sigterm(path: Path) -> Iterator[None]:
    """While the context lasts, SIGTERM writes `path`; a second one ends the process at once.

    Does nothing outside the main thread, where Python allows no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        del number, frame
        if path.exists():
            raise KeyboardInterrupt
        path.touch()
        _LOG.warning(
            "SIGTERM: the run writes a checkpoint after its step and ends; a second one ends it "
            "at once"
        )

    before = signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
