"""METRO's log lines: on the terminal as its documentation shows them, in `log.txt` with the time.

METRO's own logger wrote `METRO INFO: ...`; the result of a validation appears in its documentation
as `INFO:METRO:...`, the form of Python's root logger, and the last line of a run bare. These forms
are kept: scripts look for them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

METRO = logging.getLogger("METRO")
_OURS = logging.getLogger("metro_ray")
_ROOT_FORM = {"root_form": True}
_PLAIN_FORM = {"plain_form": True}


class _MetroFormatter(logging.Formatter):
    def __init__(self, prefix: str) -> None:
        super().__init__(prefix + "%(name)s %(levelname)s: %(message)s")
        self._root = logging.Formatter(prefix + logging.BASIC_FORMAT)
        self._plain = logging.Formatter(prefix + "%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "root_form", False):
            return self._root.format(record)
        if getattr(record, "plain_form", False):
            return self._plain.format(record)
        return super().format(record)


def log_validation(line: str) -> None:
    """Log the result of a validation in the form of METRO's documentation."""
    METRO.info(line, extra=_ROOT_FORM)


def log_completed() -> None:
    """Log the line that ends a run in METRO's documentation."""
    METRO.info("The experiment completed successfully. Finalizing run...", extra=_PLAIN_FORM)


@contextmanager
def run_log(folder: Path, rank: int) -> Iterator[None]:
    """Send the lines of a run to stdout and to `folder/log.txt` while the context lasts.

    Ranks other than 0 write nothing but warnings and errors, to stderr with their rank.
    """
    handlers: list[logging.Handler]
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        terminal = logging.StreamHandler(sys.stdout)
        terminal.setFormatter(_MetroFormatter(""))
        file = logging.FileHandler(folder / "log.txt", encoding="utf-8")
        file.setFormatter(_MetroFormatter("%(asctime)s "))
        handlers = [terminal, file]
    else:
        other = logging.StreamHandler(sys.stderr)
        other.setLevel(logging.WARNING)
        other.setFormatter(_MetroFormatter(f"rank {rank}: "))
        handlers = [other]
    before = [(logger, logger.level, logger.propagate) for logger in (METRO, _OURS)]
    for logger in (METRO, _OURS):
        logger.setLevel(logging.INFO)
        logger.propagate = False
        for handler in handlers:
            logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, level, propagate in before:
            logger.setLevel(level)
            logger.propagate = propagate
            for handler in handlers:
                logger.removeHandler(handler)
        for handler in handlers:
            handler.close()
