"""RayDataSource: the batches of one rank, read by Ray Data tasks anywhere in the cluster.

Each rank runs its own small pipeline over its own slice of the epoch plan instead of taking part in
one pipeline that is split: order, equal batches and the position to resume at stay exact
(`docs/decisions/0001-ingest.md`). A stream starts before it is needed: when the rows of an epoch
have been read, those of the validation or of the next epoch follow while the rank still computes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from metro_ray.cluster.blocks import RowReader, StoredReader, store_reader
from metro_ray.cluster.data_budget import budget_line, row_seconds
from metro_ray.cluster.stream import BatchStream, StreamSettings, configure_ray_data
from metro_ray.data.bad_rows import BadRow, BadRows
from metro_ray.training.data_source import (
    describe_splits,
    eval_plan,
    list_bad_rows,
    make_transform,
    open_split,
    train_plan,
)

if TYPE_CHECKING:
    from metro_ray.bodies.spec import MeshSpec
    from metro_ray.cluster.resources import ResourcePlan
    from metro_ray.config.schema import TrainConfig
    from metro_ray.data.plan import EpochPlan
    from metro_ray.data.rows import RowDataset
    from metro_ray.data.sample import Batch

Gather = Callable[[Any], list[Any]]
"""Collects one object of every rank, on every rank."""


class _Split(NamedTuple):
    """A data set that is read: "train" or "val"."""

    dataset: RowDataset
    reader: StoredReader


class _Pass(NamedTuple):
    """One pass over a split, which is what a stream is for."""

    split: str
    epoch: int
    start_row: int


class RayDataSource:
    """Implements `training.data_source.DataSource`; close it when the run is over.

    Broken rows of all ranks are exchanged at the end of each pass, so every rank knows them all.
    Within a pass a rank counts what it has met itself.

    Raises:
        DataError: A data set is missing or broken.
    """

    def __init__(
        self,
        config: TrainConfig,
        spec: MeshSpec,
        plan: ResourcePlan,
        *,
        rank: int,
        world_size: int,
        gather: Gather,
        pin_memory: bool = False,
    ) -> None:
        self._config, self._spec = config, spec
        self._rank, self._world_size = rank, world_size
        self._gather = gather
        self._settings = StreamSettings(
            block_rows=config.data.block_rows,
            concurrent_tasks=plan.concurrent_read_tasks,
            prefetch_batches=config.data.prefetch_batches,
            task_cpus=plan.data_task_cpus,
            pin_memory=pin_memory and torch.cuda.is_available(),
        )
        self._splits: dict[str, _Split] = {}
        for name in ("train", "val"):
            dataset = (
                None if name == "train" and config.eval.only else open_split(config, spec, name)
            )
            if dataset is not None:
                transform = make_transform(config, spec, train=name == "train")
                reader = store_reader(RowReader(dataset, transform))
                self._splits[name] = _Split(dataset, reader)
                configure_ray_data(plan, reader.row_bytes, config.data.block_rows)
        limit = config.data.max_bad_rows
        self._bad = {name: BadRows(limit, name=f"{name} set") for name in ("train", "val")}
        self._lock = threading.Lock()
        self._ahead: tuple[_Pass, BatchStream] | None = None
        self._last_epoch = -1
        self._closed = False

    @property
    def source_names(self) -> tuple[str, ...]:
        train = self._splits.get("train")
        return () if train is None else train.dataset.source_names

    @property
    def train_rows(self) -> str:
        return self._plan(_Pass("train", 0, 0)).rows_text if "train" in self._splits else ""

    def describe(self) -> list[str]:
        """Data sets and, on rank 0, what the read tasks can prepare at most."""
        splits = {name: split.dataset for name, split in self._splits.items()}
        lines, train = describe_splits(splits), splits.get("train")
        if train is not None and len(train) and self._rank == 0:
            reader = RowReader(train, make_transform(self._config, self._spec, train=True))
            line = budget_line(
                row_seconds(reader, len(train)),
                read_tasks=self._settings.concurrent_tasks * self._world_size,
                batch_size=self._config.optim.per_gpu_batch_size * self._world_size,
            )
            lines.append(line)
        return lines

    def num_train_batches(self, start_row: int = 0) -> int:
        if "train" not in self._splits:
            return 0
        return self._plan(_Pass("train", 0, start_row)).num_batches

    def train_batches(self, epoch: int, start_row: int = 0) -> Iterator[Batch]:
        self._last_epoch = epoch
        return self._batches(_Pass("train", epoch, start_row))

    def eval_batches(self) -> Iterator[Batch]:
        return self._batches(_Pass("val", 0, 0))

    def bad_rows(self) -> dict[str, Any]:
        return list_bad_rows(self._bad)

    def close(self) -> None:
        """Stop what is being read ahead."""
        with self._lock:
            self._closed = True
            ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead[1].close()

    def _batches(self, wanted: _Pass) -> Iterator[Batch]:
        if wanted.split not in self._splits:
            return
        stream, met = self._take(wanted), []
        try:
            for loaded in stream:
                met.extend(loaded.problems)
                self._bad[wanted.split].extend(loaded.problems)
                yield loaded.batch
        finally:
            stream.close()
        self._exchange(wanted.split, met)

    def _exchange(self, split: str, met: list[BadRow]) -> None:
        """Tell the other ranks which rows are broken; every rank is here once per pass."""
        if self._world_size > 1:
            for rows in self._gather(met):
                self._bad[split].extend(BadRow(*row) for row in rows)

    def _take(self, wanted: _Pass) -> BatchStream:
        """The stream that was started ahead if it is the wanted one, else a new one."""
        with self._lock:
            ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == wanted:
            return ahead[1]
        if ahead is not None:
            ahead[1].close()
        return self._open(wanted)

    def _open(self, wanted: _Pass) -> BatchStream:
        plan = self._plan(wanted)
        return BatchStream(
            self._splits[wanted.split].reader,
            plan.rank_rows(self._rank),
            epoch=wanted.epoch,
            batch_size=plan.batch_size,
            settings=self._settings,
            on_read=lambda: self._read_ahead(wanted),
        )

    def _read_ahead(self, done: _Pass) -> None:
        """Start the pass that follows `done`, from the thread that has just read its last row."""
        following = self._following(done)
        with self._lock:
            if following is None or self._closed or self._ahead is not None:
                return
            self._ahead = (following, self._open(following))

    def _following(self, done: _Pass) -> _Pass | None:
        if done.split == "train" and "val" in self._splits:
            return _Pass("val", 0, 0)
        epoch = self._last_epoch + 1
        if "train" in self._splits and epoch < self._config.optim.epochs:
            return _Pass("train", epoch, 0)
        return None

    def _plan(self, wanted: _Pass) -> EpochPlan:
        dataset, ranks = self._splits[wanted.split].dataset, self._world_size
        if wanted.split == "val":
            return eval_plan(self._config, dataset, ranks)
        return train_plan(self._config, dataset, ranks, wanted.epoch, wanted.start_row)
