"""EpochPlan: which rows each rank reads in an epoch, and in which order.

The order is a function of the seed and the epoch alone. Global batch k is rows [k W B, (k+1) W B)
of that order for W ranks with batches of B; rank r takes the r-th slice of B. So the rows of a
global batch do not depend on how many files, tasks or machines read them, and a run resumes in the
middle of an epoch by skipping batches.

The last, incomplete global batch is split over the ranks as evenly as it goes, so no rank has a
batch that is more than one row longer than another's, and every rank has the same number of batches
(a rank with one batch less would leave the others waiting for its gradients). A rank that would get
nothing takes a *filler*: a row of the same global batch which it reads but which does not count.
Fillers are written as the complement of the row number (`~row`, negative); `load_row` marks their
samples `valid = False`.

METRO differs: its sampler pads every epoch with repeated rows so that all ranks have equally many,
and its iterations are floor(N / (B W)) x epochs over a loader that keeps the short last batch, so
its passes drift against its epochs. Here an epoch is every row once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from metro_ray.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochPlan:
    """Rows of one epoch for every rank.

    Raises:
        DataError: no rows, or `drop_tail` with fewer rows than one global batch.
    """

    num_rows: int
    batch_size: int
    world_size: int = 1
    seed: int = 0
    epoch: int = 0
    shuffle: bool = True
    drop_tail: bool = False
    """Leave out the last incomplete global batch instead of splitting it."""

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise DataError("the data set has no rows; check its linelist and index files")
        if self.batch_size < 1 or self.world_size < 1:
            raise DataError(
                "batch_size and world_size must be >= 1, "
                f"got {self.batch_size} and {self.world_size}"
            )
        if self.drop_tail and self.num_rows < self.global_batch_size:
            raise DataError(
                f"{self.num_rows} rows do not make one global batch of {self.world_size} ranks x "
                f"{self.batch_size}; use smaller batches, fewer ranks, or data.drop_tail false"
            )

    @property
    def global_batch_size(self) -> int:
        """Rows of one step over all ranks."""
        return self.batch_size * self.world_size

    @property
    def num_batches(self) -> int:
        """Batches of the epoch, the same on every rank."""
        full, tail = divmod(self.num_rows, self.global_batch_size)
        return full + (1 if tail and not self.drop_tail else 0)

    def order(self) -> Int[np.ndarray, " num_rows"]:
        """All rows in the order of this epoch."""
        if not self.shuffle:
            return np.arange(self.num_rows)
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.num_rows)

    def rank_rows(self, rank: int, start_batch: int = 0) -> Int[np.ndarray, " rows"]:
        """Rows of one rank from batch `start_batch` on; batch i is the i-th slice of `batch_size`.

        Only the last slice may be shorter. Negative entries are fillers (see the module's text).

        Raises:
            DataError: `rank` or `start_batch` out of range.
        """
        if not 0 <= rank < self.world_size:
            raise DataError(f"rank must be within [0, {self.world_size}), got {rank}")
        if not 0 <= start_batch <= self.num_batches:
            raise DataError(
                f"start_batch must be within [0, {self.num_batches}], got {start_batch}"
            )
        order = self.order()
        full = self.num_rows // self.global_batch_size
        shape = (full, self.world_size, self.batch_size)
        rows = order[: full * self.global_batch_size].reshape(shape)[start_batch:, rank].reshape(-1)
        if self.num_batches == full or start_batch > full:
            return rows
        return np.concatenate([rows, self._tail(order[full * self.global_batch_size :], rank)])

    def rank_batches(self, rank: int, start_batch: int = 0) -> list[Int[np.ndarray, " rows"]]:
        """`rank_rows` cut into its batches."""
        rows = self.rank_rows(rank, start_batch)
        return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]

    def _tail(self, tail: Int[np.ndarray, " tail"], rank: int) -> Int[np.ndarray, " rows"]:
        share = np.array_split(tail, self.world_size)[rank]
        return share if len(share) else ~tail[rank % len(tail) :][:1]


def is_filler(row: int) -> bool:
    """Whether a row of a plan only keeps a rank busy and does not count."""
    return row < 0


def row_number(row: int) -> int:
    """The row of the data set that an entry of a plan stands for."""
    return ~row if row < 0 else row


def metro_batch_sizes(num_rows: int, batch_size: int, world_size: int, epochs: int) -> list[int]:
    """Batch sizes of one rank over a whole run of METRO, to compare schedules with it.

    Its iterations are floor(N / (B W)) x epochs; its loader keeps the short last batch of each
    pass, so a pass has more batches than an epoch has iterations whenever N is no multiple of B W.
    """
    share = -(-num_rows // world_size)
    one_pass = [min(batch_size, share - start) for start in range(0, share, batch_size)]
    iterations = num_rows // (batch_size * world_size) * epochs
    return (one_pass * epochs)[:iterations]
