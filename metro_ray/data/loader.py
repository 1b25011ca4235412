"""LocalLoader: batches of one rank in plan order, decoded by threads. No Ray, no extra processes.

OpenCV, base64 and file reads release the interpreter lock, so threads keep the cores busy without
copying samples between processes. The order and the content of the batches do not depend on the
number of threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from metro_ray.data.sample import Batch, collate
from metro_ray.data.transform import LoadedRow, load_row

if TYPE_CHECKING:
    from metro_ray.data.bad_rows import BadRows
    from metro_ray.data.plan import EpochPlan
    from metro_ray.data.rows import RowDataset
    from metro_ray.data.transform import SampleTransform


class LocalLoader:
    """Iterates over the batches of one rank; can be iterated again.

    A row that cannot be read is counted in `bad_rows` and stands as a blank sample with `valid`
    false.
    """

    def __init__(
        self,
        dataset: RowDataset,
        transform: SampleTransform,
        plan: EpochPlan,
        *,
        bad_rows: BadRows,
        rank: int = 0,
        num_threads: int = 2,
        prefetch_batches: int = 2,
    ) -> None:
        """Choose rows and threads.

        Args:
            dataset: where rows are read.
            transform: how they become samples.
            plan: which rows, in which order.
            bad_rows: collects rows that cannot be read.
            rank: whose share of the plan.
            num_threads: threads that decode; 0 decodes in the caller's thread.
            prefetch_batches: batches that are decoded ahead of the one being used.
        """
        self._dataset = dataset
        self._transform = transform
        self._plan = plan
        self._bad_rows = bad_rows
        self._rank = rank
        self._num_threads = num_threads
        self._prefetch_batches = prefetch_batches

    def __len__(self) -> int:
        return self._plan.num_batches

    def __iter__(self) -> Iterator[Batch]:
        batches = self._plan.rank_batches(self._rank)
        if self._num_threads == 0:
            for rows in batches:
                yield self._collate([self._load(row) for row in rows.tolist()])
            return
        ahead: deque[list[Future[LoadedRow]]] = deque()
        with ThreadPoolExecutor(self._num_threads, thread_name_prefix="decode") as pool:
            try:
                for rows in batches:
                    ahead.append([pool.submit(self._load, row) for row in rows.tolist()])
                    if len(ahead) > self._prefetch_batches:
                        yield self._finish(ahead.popleft())
                while ahead:
                    yield self._finish(ahead.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _load(self, entry: int) -> LoadedRow:
        return load_row(self._dataset, self._transform, entry, self._plan.epoch)

    def _finish(self, futures: list[Future[LoadedRow]]) -> Batch:
        return self._collate([future.result() for future in futures])

    def _collate(self, rows: list[LoadedRow]) -> Batch:
        self._bad_rows.extend(row.problem for row in rows if row.problem is not None)
        return collate([row.sample for row in rows], [row.key for row in rows])
