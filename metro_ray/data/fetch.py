"""Load several rows at once: of remote data sets with their requests under way together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from metro_ray.data.transform import LoadedRow, SampleTransform, load_row

if TYPE_CHECKING:
    from metro_ray.data.rows import RowDataset

_REQUESTS = 16
"""Rows of a remote data set that are asked for at a time."""


def load_rows(
    dataset: RowDataset, transform: SampleTransform, entries: Sequence[int], epoch: int
) -> list[LoadedRow]:
    """`transform.load_row` for each of some entries of a plan, in their order.

    Local rows are loaded one after the other: whoever calls this is one of several tasks. A remote
    row mostly waits for its answer, so threads ask for several.
    """
    if not dataset.remote:
        return [load_row(dataset, transform, entry, epoch) for entry in entries]
    with ThreadPoolExecutor(min(_REQUESTS, len(entries)), thread_name_prefix="fetch") as pool:
        return list(pool.map(lambda entry: load_row(dataset, transform, entry, epoch), entries))
