"""EpochPlan: which rows each rank reads in an epoch, and in which order.

The order is a function of the seed and the epoch alone. Global batch k is rows [k W B, (k+1) W B)
of that order for W ranks with batches of B; rank r takes the r-th slice of B. So the rows of a
global batch do not depend on how many files, tasks or machines read them, and a run resumes in the
middle of an epoch by skipping the rows that it has trained on (`start_row`), on any number of
ranks.

What a plan holds for a row is an *entry*, one number: the row, plus the number of rows of the data
set for each earlier pass over its source within the epoch. A row of a plain data set is its own
entry. A mixture with weights may want a row twice in an epoch: the two have different entries and
so different augmentation (`decode_entry`).

The last, incomplete global batch is split over the ranks as evenly as it goes, so no rank has a
batch that is more than one row longer than another's, and every rank has the same number of batches
(a rank with one batch less would leave the others waiting for its gradients). A rank that would get
nothing takes a *filler*: an entry of the same global batch which it reads but which does not count.
Fillers are written as the complement of the entry (`~entry`, negative); `load_row` marks their
samples `valid = False`.

METRO differs: its sampler pads every epoch with repeated rows so that all ranks have equally many,
and its iterations are floor(N / (B W)) x epochs over a loader that keeps the short last batch, so
its passes drift against its epochs. Here an epoch is every row once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from metro_ray.errors import DataError


class Share(NamedTuple):
    """What one source of a mixture gives to every epoch."""

    first_row: int
    """Its first row in the data set; the others follow."""
    num_rows: int
    rows_per_epoch: int
    """At least 1; may be more than it has."""


class Entry(NamedTuple):
    """What an entry of a plan stands for."""

    row_id: int
    """Row of the data set."""
    turn: int
    """Which pass over the row's source this is, counted within the epoch; 0 without a mixture."""
    is_filler: bool
    """Whether it only keeps a rank busy and does not count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochPlan:
    """Rows of one epoch for every rank.

    Raises:
        DataError: no rows, or `drop_tail` with fewer rows than one global batch.
    """

    num_rows: int
    """Of the data set."""
    batch_size: int
    world_size: int = 1
    seed: int = 0
    epoch: int = 0
    shuffle: bool = True
    drop_tail: bool = False
    """Leave out the last incomplete global batch instead of splitting it."""
    shares: tuple[Share, ...] = ()
    """What each source gives to an epoch; empty takes every row once."""
    start_row: int = 0
    """Rows at the front of the epoch's order that are left out, because they have had their turn;
    all else here is about those that follow."""

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise DataError("the data set has no rows; check its linelist and index files")
        if self.batch_size < 1 or self.world_size < 1:
            raise DataError(
                "batch_size and world_size must be >= 1, "
                f"got {self.batch_size} and {self.world_size}"
            )
        if self.shares and not self.shuffle:
            raise ValueError("a plan with shares is always shuffled")
        if self.drop_tail and self.rows_per_epoch < self.global_batch_size:
            raise DataError(
                f"{self.rows_per_epoch} rows do not make one global batch of {self.world_size} "
                f"ranks x {self.batch_size}; use smaller batches, fewer ranks, or data.drop_tail "
                "false"
            )
        if not 0 <= self.start_row <= self.rows_per_epoch:
            raise DataError(
                f"start_row must be within [0, {self.rows_per_epoch}], got {self.start_row}: the "
                "data set has changed since the checkpoint was written"
            )

    @property
    def rows_per_epoch(self) -> int:
        """Entries of a whole epoch."""
        return sum(share.rows_per_epoch for share in self.shares) or self.num_rows

    @property
    def rows_text(self) -> str:
        """What, beside the seed, decides the order of an epoch's rows."""
        if not self.shares:
            return f"{self.num_rows} rows"
        parts = (f"{share.rows_per_epoch} of {share.num_rows} rows" for share in self.shares)
        return " + ".join(parts)

    @property
    def global_batch_size(self) -> int:
        """Rows of one step over all ranks."""
        return self.batch_size * self.world_size

    @property
    def num_batches(self) -> int:
        """Batches from `start_row` on, the same on every rank."""
        full, tail = divmod(self.rows_per_epoch - self.start_row, self.global_batch_size)
        return full + (1 if tail and not self.drop_tail else 0)

    def order(self) -> Int[np.ndarray, " rows_per_epoch"]:
        """All entries of the whole epoch in their order."""
        if not self.shuffle:
            return np.arange(self.num_rows)
        rng = np.random.default_rng([self.seed, self.epoch])
        if not self.shares:
            return rng.permutation(self.num_rows)
        # Places are shuffled over all sources; each source then fills its own in the order of its
        # passes, so that at no time one of its rows has been taken twice more often than another.
        counts = [share.rows_per_epoch for share in self.shares]
        places = rng.permutation(np.repeat(np.arange(len(self.shares)), counts))
        order = np.empty(len(places), np.int64)
        for source in range(len(self.shares)):
            order[places == source] = self._drawn(source)
        return order

    def rank_rows(self, rank: int) -> Int[np.ndarray, " rows"]:
        """Entries of one rank; batch i is the i-th slice of `batch_size`.

        Only the last slice may be shorter. Negative ones are fillers (see the module's text).

        Raises:
            DataError: `rank` out of range.
        """
        if not 0 <= rank < self.world_size:
            raise DataError(f"rank must be within [0, {self.world_size}), got {rank}")
        order = self.order()[self.start_row :]
        full = len(order) // self.global_batch_size
        shape = (full, self.world_size, self.batch_size)
        rows = order[: full * self.global_batch_size].reshape(shape)[:, rank].reshape(-1)
        if self.num_batches == full:
            return rows
        return np.concatenate([rows, self._tail(order[full * self.global_batch_size :], rank)])

    def rank_batches(self, rank: int) -> list[Int[np.ndarray, " rows"]]:
        """`rank_rows` cut into its batches."""
        rows = self.rank_rows(rank)
        return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]

    def _tail(self, tail: Int[np.ndarray, " tail"], rank: int) -> Int[np.ndarray, " rows"]:
        share = np.array_split(tail, self.world_size)[rank]
        return share if len(share) else ~tail[rank % len(tail) :][:1]

    def _drawn(self, source: int) -> Int[np.ndarray, " rows"]:
        """The epoch's piece of a source's endless sequence of permutations."""
        share = self.shares[source]
        begin = self.epoch * share.rows_per_epoch
        end = begin + share.rows_per_epoch
        first_pass = begin // share.num_rows
        entries = []
        for number in range(first_pass, -(-end // share.num_rows)):
            seed = np.random.SeedSequence(self.seed, spawn_key=(source, number))
            rows = share.first_row + np.random.default_rng(seed).permutation(share.num_rows)
            entries.append(rows + (number - first_pass) * self.num_rows)
        skipped = begin - first_pass * share.num_rows
        return np.concatenate(entries)[skipped : skipped + share.rows_per_epoch]


def decode_entry(entry: int, num_rows: int) -> Entry:
    """Take an entry of a plan apart.

    Args:
        entry: Of `EpochPlan.rank_rows`.
        num_rows: Rows of the data set.
    """
    turn, row_id = divmod(~entry if entry < 0 else entry, num_rows)
    return Entry(row_id, turn, entry < 0)


def metro_batch_sizes(num_rows: int, batch_size: int, world_size: int, epochs: int) -> list[int]:
    """Batch sizes of one rank over a whole run of METRO, to compare schedules with it.

    Its iterations are floor(N / (B W)) x epochs; its loader keeps the short last batch of each
    pass, so a pass has more batches than an epoch has iterations whenever N is no multiple of B W.
    """
    share = -(-num_rows // world_size)
    one_pass = [min(batch_size, share - start) for start in range(0, share, batch_size)]
    iterations = num_rows // (batch_size * world_size) * epochs
    return (one_pass * epochs)[:iterations]
