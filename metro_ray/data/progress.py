"""Progress of long work: a bar on a terminal, a plain line every few seconds otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 10.0


def show_progress(steps: Iterable[int], total: int, *, done: int = 0, what: str = "") -> None:
    """Run through `steps`, each saying how much it finished.

    Args:
        steps: the work; every item is the number of units it finished, 0 included.
        total: units of the whole.
        done: units that were there before.
        what: the unit's name.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task(what, total=total, completed=done)
            for step in steps:
                bar.advance(task, step)
        return
    begin = last = time.monotonic()
    first = done
    for step in steps:
        done += step
        now = time.monotonic()
        if now - last >= _LINE_EVERY_S or (step and done == total):
            pace = pace_text(done - first, now - begin, left=total - done)
            console.print(f"{what}: {done}/{total}, {pace}", highlight=False)
            last = now


def pace_text(count: int, seconds: float, *, left: int) -> str:
    """How fast `count` units in `seconds` are, and how long those that are left will take."""
    if count <= 0 or seconds <= 0:
        return "nothing finished yet" if left else "nothing left"
    rate = count / seconds
    pace = (
        f"{rate:.0f}/s"
        if rate >= 10
        else f"{rate:.2g}/s"
        if rate >= 1
        else f"{1 / rate:.3g} s each"
    )
    return f"{pace}, {left / rate:.0f} s left"
