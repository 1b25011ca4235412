"""The bar of a run on the driver's terminal; elsewhere the lines of the log are enough.

Rank 0 may be on another machine: it leaves `progress.json` in the run's folder, which all share.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from metro_ray.training.live import FILE, LiveState, read_live

_LOOK_EVERY_S = 0.5
_WIDE = 110
"""Columns of a terminal that has room for all."""


@contextmanager
def live_display(run_dir: Path, console: Console | None = None) -> Iterator[None]:
    """Show epoch, steps, loss, speed, wait for data and time left while the context lasts.

    Log lines go on above the bar. Does nothing where the output is no terminal.
    """
    (run_dir / FILE).unlink(missing_ok=True)
    # Rich takes a file for a terminal where FORCE_COLOR is set: only a given console is believed.
    if not (sys.stdout.isatty() if console is None else console.is_terminal):
        yield
        return
    console = console or Console()
    whole = Column(no_wrap=True, min_width=len("training epoch 10/10"))
    columns = (
        TextColumn("{task.description}", table_column=whole),
        BarColumn(bar_width=24 if console.width >= _WIDE else 8),
        TextColumn("{task.fields[told]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    over = threading.Event()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None, told="")
        watcher = threading.Thread(
            target=_watch, args=(run_dir, bar, task, over), name="live-display", daemon=True
        )
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def _watch(run_dir: Path, bar: Progress, task: TaskID, over: threading.Event) -> None:
    while not over.wait(_LOOK_EVERY_S):
        try:
            state = read_live(run_dir)
        except (OSError, json.JSONDecodeError, TypeError):
            continue  # a shared file system may show half a file; the next look sees the whole
        if state is not None:
            describe, told = state_texts(state)
            bar.update(
                task,
                description=describe,
                completed=state.done_steps,
                total=state.all_steps,
                told=told,
            )


def state_texts(state: LiveState) -> tuple[str, str]:
    """What stands before the bar, and behind it: a narrow terminal cuts the end."""
    epoch = min(state.epoch + (state.phase == "training"), state.epochs)
    left = "" if state.seconds_left is None else f"{_duration(state.seconds_left)} left, "
    loss = "-" if state.loss is None else f"{state.loss:.4g}"
    return (
        f"{state.phase} epoch {epoch}/{state.epochs}",
        f"{left}step {state.done_steps}/{state.all_steps}, loss {loss}, "
        f"{state.images_per_second:.1f} images/s, data wait {100 * state.data_wait_share:.0f} %, "
        f"{state.memory_mib / 1024:.1f} GiB",
    )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
