"""Where the loop's batches come from: one protocol, and its implementation without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from metro_ray.data.sample import Batch


class DataSource(Protocol):
    """What one rank trains and validates on."""

    @property
    def num_train_batches(self) -> int:
        """Training batches of one epoch, the same on every rank; 0 without a training set."""
        ...

    def train_batches(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Augmented batches of an epoch in its order, from batch `start_batch` on."""
        ...

    def eval_batches(self) -> Iterator[Batch]:
        """Validation batches, every row once over all ranks; none without a validation set."""
        ...

    def bad_rows(self) -> dict[str, Any]:
        """Rows that were skipped: {"count": int, "rows": [{"key": str, "reason": str}, ...]}."""
        ...
