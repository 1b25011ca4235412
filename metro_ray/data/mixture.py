"""MixedDataset: several data sets as one, each with its share of an epoch.

    mixture:
      - {name: human36m, data: human3.6m/train.yaml, weight: 0.5}
      - {name: coco, data: coco/train.yaml, weight: 0.2}
    rows_per_epoch: 300000

Without weights it is the plain union: every row of every source once an epoch. With weights a
source gives its part of `rows_per_epoch` (the sum of all rows where it is left out), rounded so
that the parts add up; weights count relative to their sum. Which of its rows they are, and in which
order, is said in `plan.py`. Validation takes every row once, whatever the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metro_ray.data.dataset_yaml import find_file, load_yaml
from metro_ray.data.parquet import is_parquet
from metro_ray.data.plan import Share
from metro_ray.data.rows import KeyedFiles, Row, RowDataset, exact_row
from metro_ray.errors import DataError

MIXTURE = "mixture"
_KEYS = (MIXTURE, "rows_per_epoch")
_SOURCE_KEYS = ("name", "data", "weight")


class MixedDataset:
    """Rows of several data sets by number, source after source.

    Args:
        name: What was opened, for messages.
        sources: Data sets by the names that reports use.
        rows_per_epoch: How many rows each source gives to an epoch of training; None takes every
            row once.
    """

    def __init__(
        self,
        name: str,
        sources: Mapping[str, RowDataset],
        rows_per_epoch: Sequence[int] | None = None,
    ) -> None:
        self.name = name
        self.source_names = tuple(sources)
        self._parts = list(sources.values())
        counts = [len(part) for part in self._parts]
        self._first_row = np.concatenate([[0], np.cumsum(np.array(counts, np.int64))])
        self.shares: tuple[Share, ...] = ()
        if rows_per_epoch is not None:
            first = self._first_row[:-1].tolist()
            shares = zip(first, counts, rows_per_epoch, strict=True)
            self.shares = tuple(Share(*share) for share in shares)

    def __len__(self) -> int:
        return int(self._first_row[-1])

    @property
    def remote(self) -> bool:
        """Whether reading a row of any source is a request over the network."""
        return any(part.remote for part in self._parts)

    def key(self, row_id: int) -> str:
        """Key of a row in its source."""
        source, row = self._locate(row_id)
        return self._parts[source].key(row)

    def key_or_number(self, row_id: int) -> str:
        """Key of a row, or `row N` where not even the key can be read: for reports."""
        try:
            return self.key(row_id)
        except DataError:
            return f"row {row_id}"

    def row(self, row_id: int) -> Row:
        """Read one row; `source` is its source in the mixture.

        Raises:
            DataError: the row does not exist or is broken; names file, row and key.
        """
        source, row = self._locate(row_id)
        return self._parts[source].row(row)._replace(source=source)

    def exact_row(self, row_id: int) -> Row:
        """As `row`, with the label as it was written; see `rows.exact_row`."""
        source, row = self._locate(row_id)
        return exact_row(self._parts[source], row)._replace(source=source)

    def file_keys(self, row_id: int) -> dict[str, str]:
        """The key that each file of its source gives a row, by file name."""
        source, row = self._locate(row_id)
        part = self._parts[source]
        return part.file_keys(row) if isinstance(part, KeyedFiles) else {}

    def file_rows(self) -> list[dict[str, int]]:
        """As `KeyedFiles.file_rows`, source after source."""
        keyed = (part for part in self._parts if isinstance(part, KeyedFiles))
        return [rows for part in keyed for rows in part.file_rows()]

    def source(self, row_id: int) -> int:
        """Which source a row comes from."""
        return self._locate(row_id)[0]

    def describe(self) -> str:
        """One line for the log: rows of each source, in all and in an epoch of training."""
        counts = [f"{len(part)} of {name}" for name, part in self._named()]
        if not self.shares:
            return f"{self.name}: {len(self)} rows, each once an epoch: {', '.join(counts)}"
        total = sum(share.rows_per_epoch for share in self.shares)
        parts = [
            f"{rows} of {name}'s {num_rows} ({rows / total:.1%})"
            for name, (_, num_rows, rows) in zip(self.source_names, self.shares, strict=True)
        ]
        return (
            f"{self.name}: an epoch of training takes {total} rows: {', '.join(parts)}; "
            f"validation ignores the weights and takes each of the {len(self)} rows once"
        )

    def stamp(self) -> str:
        """Changes with the sources; their weights order training only."""
        return "; ".join(f"{name}: {part.stamp()}" for name, part in self._named())

    def _named(self) -> list[tuple[str, RowDataset]]:
        return list(zip(self.source_names, self._parts, strict=True))

    def _locate(self, row_id: int) -> tuple[int, int]:
        if not 0 <= row_id < len(self):
            raise DataError(
                f"{self.name}: row {row_id} does not exist, the mixture has {len(self)} rows"
            )
        source = int(np.searchsorted(self._first_row, row_id, side="right")) - 1
        return source, int(row_id - self._first_row[source])


def open_mixture(
    path: Path, config: Mapping[str, Any], open_source: Callable[[Path], RowDataset]
) -> MixedDataset:
    """Open the sources that a YAML with the key `mixture` names.

    Args:
        path: The YAML, for messages and beside which sources are looked up.
        config: What it says.
        open_source: Opens one data set.

    Raises:
        DataError: The YAML is not as expected, or a source cannot be opened.
    """
    _require_keys(config, _KEYS, str(path))
    entries = config[MIXTURE]
    if not isinstance(entries, list) or not entries:
        raise DataError(
            f"{path}: {MIXTURE!r} must list its sources, such as "
            f"{{name: coco, data: coco/train.yaml, weight: 0.2}}; got {entries!r}"
        )
    sources: dict[str, RowDataset] = {}
    weights: list[float | None] = []
    for number, entry in enumerate(entries, start=1):
        name, found, weight = _read_entry(path, number, entry)
        if name in sources:
            raise DataError(f"{path}: two sources are named {name!r}; names must differ")
        sources[name] = open_source(found)
        weights.append(weight)
        if not len(sources[name]):
            raise DataError(f"{path}: source {name!r} ({found}) has no rows; leave it out")
    rows = [len(source) for source in sources.values()]
    per_epoch = _rows_per_epoch(path, config, list(sources), weights, sum(rows))
    return MixedDataset(str(path), sources, per_epoch)


def split_rows(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that add up to `total`, in proportion to `weights`: largest remainder.

    Equal remainders go to the earlier ones.
    """
    exact = np.array(weights, np.float64) / math.fsum(weights) * total
    parts = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(parts - exact, kind="stable")
    parts[by_remainder[: total - int(parts.sum())]] += 1
    return parts.tolist()


def _read_entry(path: Path, number: int, entry: object) -> tuple[str, Path, float | None]:
    """Name, place and weight of a source."""
    where = f"{path}: source {number} of {MIXTURE!r}"
    if not isinstance(entry, dict):
        raise DataError(f"{where} must have the keys name and data, got {entry!r}")
    _require_keys(entry, _SOURCE_KEYS, where)
    for key in ("name", "data"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            raise DataError(f"{where}: {key} must be a text, got {entry.get(key)!r}")
    weight = entry.get("weight")
    if weight is not None and not (_is_number(weight) and 0 < weight < math.inf):
        raise DataError(
            f"{where} ({entry['name']}): weight must be a number above 0, got {weight!r}; leave a "
            "source out that is not wanted"
        )
    found = find_file(entry["data"], path, f"data of {entry['name']}")
    if not is_parquet(found) and MIXTURE in load_yaml(found):
        raise DataError(
            f"{where} ({entry['name']}): {found} is a mixture itself; list its sources here instead"
        )
    return entry["name"], found, weight


def _rows_per_epoch(
    path: Path,
    config: Mapping[str, Any],
    names: Sequence[str],
    weights: Sequence[float | None],
    num_rows: int,
) -> list[int] | None:
    """Rows that each source gives to an epoch; None where there are no weights."""
    given = [weight for weight in weights if weight is not None]
    total = config.get("rows_per_epoch")
    if not given:
        if total is not None:
            raise DataError(
                f"{path}: rows_per_epoch needs a weight for each source; without weights an epoch "
                f"is every row once ({num_rows})"
            )
        return None
    if len(given) < len(weights):
        without = [name for name, weight in zip(names, weights, strict=True) if weight is None]
        raise DataError(
            f"{path}: give a weight to every source or to none; missing: {', '.join(without)}"
        )
    total = num_rows if total is None else total
    if not isinstance(total, int) or isinstance(total, bool) or total < 1:
        raise DataError(f"{path}: rows_per_epoch must be a whole number above 0, got {total!r}")
    parts = split_rows(total, given)
    if 0 in parts:
        raise DataError(
            f"{path}: source {names[parts.index(0)]!r} would get none of {total} rows an epoch; "
            "raise rows_per_epoch or its weight, or leave it out"
        )
    return parts


def _require_keys(found: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    unknown = [str(key) for key in found if key not in known]
    if unknown:
        raise DataError(f"{where}: unknown key {', '.join(unknown)}; expected {', '.join(known)}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
