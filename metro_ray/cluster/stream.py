"""BatchStream: the batches of one slice of an epoch plan, decoded by Ray Data ahead of their use.

A stream starts its pipeline when it is made, in a thread of its own, so the first batch of the next
epoch is decoded while this epoch is still being trained on. Order and content are exact: batch k is
the k-th slice of the plan's rows, which is checked by row number.

The rows are read a window at a time. Ray Data's executor polls without a pause while its consumer
is slower than its tasks, which costs a rank a third of a core; so each window's pipeline is drained
at full speed into this process and ends, and the next starts when half of it has been used.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ray
import ray.data
from jaxtyping import Int

from metro_ray.cluster.blocks import CollateBatch, LoadedBatch, PlanDatasource, StoredReader
from metro_ray.cluster.failures import find_metro_error
from metro_ray.errors import DataError, TrainingError

if TYPE_CHECKING:
    from metro_ray.cluster.resources import ResourcePlan

STALL_S = 600.0
_POLL_S = 0.2
_WINDOW_BLOCKS = 16
"""Blocks of a window; one and a half windows of crops are held in memory at most."""
_TASK_ROUNDS = 2
"""Tasks of a window that follow each other on the same CPU: fewer cost less, more share better."""


class StreamSettings(NamedTuple):
    """How a stream reads, the same for all streams of a rank."""

    block_rows: int
    """Rows that one task decodes at a time."""
    concurrent_tasks: int
    """Read tasks of this rank at a time."""
    prefetch_batches: int
    task_cpus: float
    """Logical CPUs of a read task."""
    pin_memory: bool
    stall_s: float = STALL_S
    """How long to wait for a batch before the run is given up, seconds."""

    @property
    def task_rows(self) -> int:
        """Rows of a read task, whole blocks."""
        blocks = _WINDOW_BLOCKS // (_TASK_ROUNDS * self.concurrent_tasks)
        return max(1, blocks) * self.block_rows


class _End(NamedTuple):
    error: BaseException | None


class BatchStream:
    """Iterates once over the batches of `rows`; started at once, stopped by `close`."""

    def __init__(
        self,
        reader: StoredReader,
        rows: Int[np.ndarray, " rows"],
        *,
        epoch: int,
        batch_size: int,
        settings: StreamSettings,
        on_read: Callable[[], None] | None = None,
    ) -> None:
        """Start reading.

        Args:
            reader: Reads the rows.
            rows: Entries of the plan in order, cut into batches from the front.
            epoch: Of the augmentation.
            batch_size: Rows of a batch; only the last may have less.
            settings: How to read.
            on_read: Called from the stream's thread when all rows have been read.
        """
        self._reader = reader
        self._epoch = epoch
        self._rows = rows
        self._batch_size = batch_size
        self._settings = settings
        self._on_read = on_read
        self._ready: queue.Queue[LoadedBatch | _End] = queue.Queue()  # windows bound it
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batch-stream", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[LoadedBatch]:
        """Batches in plan order.

        Raises:
            DataError: A batch is not the one that the plan says, or a task failed on the data.
            TrainingError: No batch for `stall_s` seconds.
        """
        try:
            for start in range(0, len(self._rows), self._batch_size):
                loaded = self._next()
                if not isinstance(loaded, LoadedBatch):
                    raise self._failure(start, loaded.error)
                planned = self._rows[start : start + self._batch_size]
                if not np.array_equal(loaded.entries, planned):
                    raise DataError(
                        f"batch {start // self._batch_size} of this rank holds rows "
                        f"{loaded.entries.tolist()}, the plan says {planned.tolist()}; "
                        "Ray Data did not preserve the order"
                    )
                yield loaded
        finally:
            self.close()

    def close(self) -> None:
        """Stop reading and give the tasks' CPUs back."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10.0)

    def _next(self) -> LoadedBatch | _End:
        deadline = time.monotonic() + self._settings.stall_s
        while True:
            try:
                return self._ready.get(timeout=_POLL_S)
            except queue.Empty:
                if time.monotonic() > deadline:
                    raise TrainingError(
                        f"no batch for {self._settings.stall_s:.0f} s: the read tasks get no CPU "
                        "or the storage does not answer; look at `ray status`, lower "
                        "scaling.cpus_per_worker, or free the cluster of other jobs"
                    ) from None

    def _failure(self, start: int, error: BaseException | None) -> BaseException:
        if error is None:
            return DataError(
                f"the stream ended after {start} of {len(self._rows)} rows of this rank"
            )
        return find_metro_error(error) or error

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._read()
        except BaseException as caught:  # noqa: BLE001 - raised in the consumer's thread
            error = caught
        self._ready.put(_End(error))

    def _read(self) -> None:
        per_window = max(1, _WINDOW_BLOCKS * self._settings.block_rows // self._batch_size)
        first = self._batch_size
        for start in range(0, len(self._rows), per_window * self._batch_size):
            while self._ready.qsize() > per_window // 2:
                if self._stop.wait(_POLL_S):
                    return
            window = self._rows[start : start + per_window * self._batch_size]
            if not self._read_window(cut_chunks(window, self._settings.task_rows, first=first)):
                return
            first = self._settings.task_rows
        if self._on_read is not None:
            self._on_read()

    def _read_window(self, chunks: list[Int[np.ndarray, " rows"]]) -> bool:
        """Put a window's batches into the queue; False if the stream was closed meanwhile."""
        dataset = ray.data.read_datasource(
            PlanDatasource(self._reader, chunks, self._epoch, self._settings.block_rows),
            num_cpus=self._settings.task_cpus,
            override_num_blocks=len(chunks),
            **_here_first(),
        )
        batches = iter(
            dataset.iter_torch_batches(
                batch_size=self._batch_size,
                prefetch_batches=self._settings.prefetch_batches,
                collate_fn=CollateBatch(pin_memory=self._settings.pin_memory),
                device="cpu",
            )
        )
        for loaded in batches:
            assert isinstance(loaded, LoadedBatch)
            if self._stop.is_set():
                return False
            self._ready.put(loaded)
        return True


def _here_first() -> dict[str, Any]:
    """Where a read task runs: on this machine while it has a free CPU, else on any that has one.

    Ray Data alone spreads tasks over all machines, and then most finished crops cross the network.
    """
    here = ray.get_runtime_context().get_node_id()
    return {
        "label_selector": {"ray.io/node-id": here},
        "fallback_strategy": [{"label_selector": {}}],
    }


def cut_chunks(
    rows: Int[np.ndarray, " rows"], task_rows: int, *, first: int
) -> list[Int[np.ndarray, " rows"]]:
    """Rows of each read task: `task_rows`, but the first tasks begin at `first` rows and double.

    So the first batch waits for as few rows as it needs, and the bulk of the epoch has few tasks.
    """
    chunks, start, size = [], 0, min(first, task_rows)
    while start < len(rows):
        chunks.append(rows[start : start + size])
        start += size
        size = min(2 * size, task_rows)
    return chunks


def configure_ray_data(plan: ResourcePlan, row_bytes: int, block_rows: int) -> None:
    """Set this process's defaults for the streams that will be made in it.

    Each stream has its own executor, which would take the whole cluster: its CPUs and its share of
    the object store are limited to what the plan gives to one rank. Ray's own no-progress timeout
    is off, because it also counts the time in which the consumer does not ask (a long validation);
    `BatchStream` watches instead.
    """
    import logging

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_auto_log_stats = False
    context.execution_no_progress_timeout_s = -1
    options = context.execution_options
    options.preserve_order = True
    tasks = plan.concurrent_read_tasks
    options.resource_limits = ray.data.ExecutionResources.for_limits(
        cpu=tasks * plan.data_task_cpus,
        object_store_memory=_BLOCKS_PER_TASK * tasks * block_rows * row_bytes,
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)


_BLOCKS_PER_TASK = 8
