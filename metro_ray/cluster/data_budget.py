"""How many images a second a run's read tasks can prepare, measured on a few of its own rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from metro_ray.cluster.blocks import BlockReader

_ROWS, _MOST_S = 17, 2.0
RAY_SHARE = 0.1
"""CPU time of Ray Data beside that of the rows themselves (benchmarks/results/ingest_body.json)."""


def row_seconds(reader: BlockReader, num_rows: int) -> float:
    """CPU seconds of one row on this machine: the median of some that are spread over the data set.

    Args:
        reader: Of the training set.
        num_rows: Of the data set, at least 1.
    """
    took, begin = [], time.monotonic()
    for row in np.linspace(0, num_rows - 1, min(_ROWS, num_rows)).astype(np.int64):
        started = time.process_time()
        reader.block(np.array([row]), epoch=0)
        took.append(time.process_time() - started)
        if time.monotonic() - begin > _MOST_S:
            break
    return float(np.median(took[1:] or took))  # the first also opens files


def images_per_second(seconds_per_row: float, cores: float) -> float:
    """What so many cores prepare."""
    return cores / (seconds_per_row * (1.0 + RAY_SHARE))


def cores_for(images_per_second: float, seconds_per_row: float) -> float:
    """Cores that prepare so many images: how many a GPU of this speed needs."""
    return images_per_second * seconds_per_row * (1.0 + RAY_SHARE)


def budget_line(seconds_per_row: float, *, read_tasks: int, batch_size: int) -> str:
    """For the log, before the first step.

    Args:
        seconds_per_row: Of `row_seconds`.
        read_tasks: Of all ranks, at a time.
        batch_size: Rows of a step of all ranks.
    """
    most = images_per_second(seconds_per_row, read_tasks)
    return (
        f"A row takes {1000 * seconds_per_row:.1f} ms of a core: {read_tasks} read task(s), with a "
        f"core each, prepare at most {most:.0f} images/s; a step of {batch_size} rows that takes "
        f"less than {batch_size / most:.2f} s waits for data"
    )
