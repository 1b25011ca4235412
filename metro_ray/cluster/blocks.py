"""Blocks of decoded rows: what a Ray Data read task makes and what becomes of it in a rank.

A read task gets a slice of an `EpochPlan` (numbers of rows), reads those rows from the TSV,
decodes, crops and augments them, and puts uint8 crops and small label arrays into the object store.
Encoded pictures never leave the task. A broken row travels as a blank sample with its reason beside
it.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import ray
from jaxtyping import Int
from ray.data import Datasource, ReadTask
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.collate_fn import NumpyBatchCollateFn

from metro_ray.data.bad_rows import BadRow
from metro_ray.data.fetch import load_rows
from metro_ray.data.sample import Batch, batch_from_arrays, blank_sample, stack_samples
from metro_ray.data.transform import SampleTransform

if TYPE_CHECKING:
    from ray.data.context import DataContext

    from metro_ray.data.rows import RowDataset

ENTRY, KEY, PROBLEM = "entry", "key", "problem"
_KEPT_READERS = 4
_readers: dict[str, BlockReader] = {}


@dataclass(frozen=True, slots=True)
class RowReader:
    """Everything a read task needs beside row numbers."""

    dataset: RowDataset
    transform: SampleTransform

    def block(self, entries: Int[np.ndarray, " rows"], epoch: int) -> dict[str, np.ndarray]:
        """Load entries of a plan as stacked arrays: the fields of `Sample`, entry, key, problem."""
        rows = load_rows(self.dataset, self.transform, entries.tolist(), epoch)
        problems = ["" if row.problem is None else row.problem.reason for row in rows]
        return {
            **stack_samples([row.sample for row in rows]),
            ENTRY: np.asarray(entries, np.int64),
            KEY: np.array([row.key for row in rows], dtype=object),
            PROBLEM: np.array(problems, dtype=object),
        }

    def row_bytes(self) -> int:
        """Size of one loaded row."""
        blank = blank_sample(self.transform.spec, 0, image_size=self.transform.image_size)
        return sum(np.asarray(field).nbytes for field in blank)


class BlockReader(Protocol):
    """What a `PlanDatasource` reads with; pickles."""

    def block(self, entries: Int[np.ndarray, " rows"], epoch: int) -> dict[str, np.ndarray]:
        """Rows as stacked arrays."""
        ...

    def row_bytes(self) -> int:
        """Size of one loaded row."""
        ...


class StoredReader(NamedTuple):
    """A `BlockReader` in the object store, once for all tasks of a rank."""

    ref: ray.ObjectRef
    """Its pickled bytes. They are opened in the task, where a missing file raises our own error."""
    name: str
    """A digest of the bytes: the same reader of two ranks is opened once in a process."""
    row_bytes: int


def store_reader(reader: BlockReader) -> StoredReader:
    """Put a reader into the object store."""
    content = pickle.dumps(reader)
    return StoredReader(ray.put(content), hashlib.sha256(content).hexdigest(), reader.row_bytes())


class PlanDatasource(Datasource):
    """A slice of an epoch plan as a Ray data source: one read task per chunk of rows.

    Args:
        reader: Reads the rows.
        chunks: Entries of the plan, in order.
        epoch: Of the augmentation.
        block_rows: Most rows of a block; a task makes several where its chunk has more. A task
            costs as much as many light rows, and a block is what has to fit into memory.
    """

    def __init__(
        self,
        reader: StoredReader,
        chunks: Sequence[Int[np.ndarray, " rows"]],
        epoch: int,
        block_rows: int | None = None,
    ) -> None:
        super().__init__()
        self._reader = reader
        self._chunks = chunks
        self._epoch = epoch
        self._block_rows = block_rows

    @property
    def num_tasks(self) -> int:
        """Number of read tasks."""
        return len(self._chunks)

    def get_name(self) -> str:
        return "Rows"

    def estimate_inmemory_data_size(self) -> int:
        return self._reader.row_bytes * sum(len(chunk) for chunk in self._chunks)

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        del parallelism, data_context  # the chunks are the tasks
        return [
            ReadTask(
                _read_chunk(self._reader, chunk, self._epoch, self._block_rows or len(chunk)),
                BlockMetadata(
                    num_rows=len(chunk),
                    size_bytes=self._reader.row_bytes * len(chunk),
                    input_files=None,
                    exec_stats=None,
                ),
                per_task_row_limit=per_task_row_limit,
            )
            for chunk in self._chunks
        ]


def _read_chunk(
    reader: StoredReader, entries: Int[np.ndarray, " rows"], epoch: int, block_rows: int
) -> Callable[[], Iterable[Any]]:
    def read() -> Iterable[Any]:
        opened = _open_reader(reader)
        for start in range(0, len(entries), block_rows):
            block = opened.block(entries[start : start + block_rows], epoch)
            yield BlockAccessor.batch_to_block(block)

    return read


def _open_reader(stored: StoredReader) -> BlockReader:
    """The reader, kept in this process: its files are opened once and not once a task."""
    if stored.name not in _readers:
        import cv2

        cv2.setNumThreads(1)  # tasks are the parallelism
        while len(_readers) >= _KEPT_READERS:
            _readers.pop(next(iter(_readers)))
        _readers[stored.name] = pickle.loads(ray.get(stored.ref))
    return _readers[stored.name]


@dataclass(frozen=True, slots=True)
class LoadedBatch:
    """A batch, and what has to be checked and reported about it."""

    batch: Batch
    entries: Int[np.ndarray, " rows"]
    """Entries of the plan that it was made of."""
    problems: tuple[BadRow, ...]


class CollateBatch(NumpyBatchCollateFn):
    """Stacked arrays of one batch -> `LoadedBatch`, in page-locked memory if asked for."""

    def __init__(self, *, pin_memory: bool = False) -> None:
        self._pin_memory = pin_memory

    def __call__(self, batch: Mapping[str, np.ndarray]) -> LoadedBatch:
        entries, keys, reasons = batch[ENTRY], batch[KEY], batch[PROBLEM]
        problems = tuple(
            BadRow(int(row_id), str(key), str(reason))
            for row_id, key, reason in zip(batch["row_id"], keys, reasons, strict=True)
            if reason
        )
        tensors = batch_from_arrays(batch, [str(key) for key in keys])
        if self._pin_memory:
            tensors = tensors.pin_memory()
        return LoadedBatch(tensors, np.asarray(entries), problems)
