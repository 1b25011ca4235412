"""Rows that cannot be read: skipped, counted, named, and an error past a limit.

A broken row never changes the number of batches: its place is taken by a blank sample with `valid`
false, which the loss and the metrics leave out. So the ranks stay in step, and one bad JPEG does
not stop a run of days.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

from metro_ray.errors import DataError

_LISTED = 10


class BadRow(NamedTuple):
    """A row that could not be turned into a sample; plain values, travels between processes."""

    row_id: int
    key: str
    reason: str


class BadRows:
    """The broken rows of a run; safe to share between threads. A row counts once."""

    def __init__(
        self, limit: int, name: str = "data set", setting: str = "data.max_bad_rows"
    ) -> None:
        """Allow `limit` broken rows before `add` raises; `name` and `setting` are for messages."""
        self._limit = limit
        self._name = name
        self._setting = setting
        self._rows: dict[int, BadRow] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: BadRow) -> None:
        """Count a row.

        Raises:
            DataError: more than `limit` rows are broken; lists the first of them.
        """
        with self._lock:
            self._rows.setdefault(row.row_id, row)
        if len(self._rows) > self._limit:
            raise DataError(
                f"{self._name}: {len(self)} rows cannot be read, "
                f"{self._setting} allows {self._limit}. "
                f"The first of them:\n{self.describe(_LISTED)}"
            )

    def extend(self, rows: Iterable[BadRow]) -> None:
        """Count several rows; errors as in `add`."""
        for row in rows:
            self.add(row)

    def rows(self) -> list[BadRow]:
        """All broken rows, by row number."""
        with self._lock:
            return [self._rows[row_id] for row_id in sorted(self._rows)]

    def describe(self, limit: int | None = None) -> str:
        """One line a row: number, key and reason."""
        return "\n".join(
            f"  row {row.row_id} ({row.key}): {row.reason}" for row in self.rows()[:limit]
        )
