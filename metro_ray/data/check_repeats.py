"""Rows that come twice, found by hashes: 16 bytes a row, and 16 more while they are sorted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt64

from metro_ray.data.check_row import NO_HASH
from metro_ray.data.check_tally import MAX_EXAMPLES, Example, Found, Tally
from metro_ray.data.rows import RowDataset


def add_repeats(
    tally: Tally,
    dataset: RowDataset,
    rows: Sequence[int] | np.ndarray,
    hashes: UInt64[np.ndarray, "2 rows"],
) -> None:
    """Rows that a linelist repeats, and other rows with the key of an earlier one."""
    keys, places = hashes
    again, first = _repeats(places)
    _add_pairs(tally, "row-repeated", dataset, rows, again, first)
    once = np.ones(len(keys), bool)
    once[again] = False
    again, first = _repeats(np.where(once, keys, NO_HASH))
    _add_pairs(tally, "key-twice", dataset, rows, again, first)


def _repeats(values: UInt64[np.ndarray, " rows"]) -> tuple[np.ndarray, np.ndarray]:
    """Places of values that were there before, in order, and the place before each of them."""
    order = np.argsort(values, kind="stable")
    same = (values[order[1:]] == values[order[:-1]]) & (values[order[1:]] != NO_HASH)
    again, first = order[1:][same], order[:-1][same]
    by_place = np.argsort(again)
    return again[by_place], first[by_place]


def _add_pairs(
    tally: Tally,
    code: str,
    dataset: RowDataset,
    rows: Sequence[int] | np.ndarray,
    again: np.ndarray,
    first: np.ndarray,
) -> None:
    if not len(again):
        return
    examples = [
        Example(int(rows[later]), dataset.key_or_number(int(rows[later])), f"as row {rows[before]}")
        for later, before in zip(again[:MAX_EXAMPLES].tolist(), first.tolist(), strict=False)
    ]
    tally.found[code] = Found(len(again), examples)
