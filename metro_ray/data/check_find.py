"""Find a row by its key, and say which keys are near when there is none."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from difflib import SequenceMatcher

from metro_ray.data.rows import RowDataset
from metro_ray.errors import DataError

_NEAR_KEYS = 5
_LEAST_ALIKE = 0.5
_LISTED = 10


def find_row(dataset: RowDataset, key: str) -> tuple[int, list[int]]:
    """Number of the first row with a key, and of some further ones that have it too.

    Reads keys from the first row on; memory does not grow with their number.

    Raises:
        DataError: no row has this key; names the ones that are most alike.
    """
    found: list[int] = []
    for row_id in range(len(dataset)):
        if dataset.key_or_number(row_id) == key:
            found.append(row_id)
            if len(found) > _LISTED:
                break
    if found:
        return found[0], found[1:]
    near = near_keys(dataset, key)
    hint = f"near ones: {', '.join(near)}" if near else "no key is like it"
    raise DataError(
        f"{dataset.name}: no row has the key {key!r} ({hint}); --row N takes a row by its number, "
        f"0 to {len(dataset) - 1}"
    )


def near_keys(dataset: RowDataset, key: str) -> list[str]:
    """The keys that are most like one: those that hold it first, then by their letters."""
    best = heapq.nlargest(_NEAR_KEYS, _likeness(dataset, key))
    return list(dict.fromkeys(found for _, _, found in best))


def _likeness(dataset: RowDataset, key: str) -> Iterator[tuple[float, int, str]]:
    """Keys that are alike, with how much (1: all letters, 2: holds it), the earlier first."""
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(key)
    seen_last = ""
    for row_id in range(len(dataset)):
        candidate = dataset.key_or_number(row_id)
        if candidate == seen_last:
            continue
        seen_last = candidate
        if key and key in candidate:
            yield 2.0, -row_id, candidate
            continue
        matcher.set_seq1(candidate)
        quick = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)
        if all(measure() >= _LEAST_ALIKE for measure in quick):
            yield matcher.ratio(), -row_id, candidate
