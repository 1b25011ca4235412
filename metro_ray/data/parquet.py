"""Data sets in Parquet: a folder of parts with its `dataset.json`, or a single part."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metro_ray.data.parquet_pages import ParquetPart
from metro_ray.data.parquet_schema import ARRAYS, FLAGS, IMAGE, TEXTS, VERSION, decode_label
from metro_ray.data.rows import Row
from metro_ray.data.storage import as_path, exists, file_stamp, is_url, read_bytes
from metro_ray.errors import DataError

SUFFIX = ".parquet"
MANIFEST = "dataset.json"
_LABEL = (*ARRAYS, *FLAGS, "body_model", "label_json")
_NEEDED = ("key", *_LABEL, "height", "width", "source", IMAGE)
_EXACT = (*_NEEDED, *(name for name in TEXTS if name not in _NEEDED))


class Manifest(NamedTuple):
    """What `dataset.json` says."""

    parts: tuple[tuple[str, int], ...]
    """File name and number of rows of each part, in the order of the rows."""
    sources: tuple[str, ...]
    """Names that the column `source` counts."""

    def to_json(self) -> str:
        """The text of `dataset.json`."""
        parts = [{"file": name, "rows": rows} for name, rows in self.parts]
        content = {"version": VERSION, "sources": list(self.sources), "parts": parts}
        return json.dumps(content, indent=1) + "\n"


def is_parquet(name: str | Path) -> bool:
    """Whether a data set's name says that it is Parquet."""
    return str(name).rstrip("/").endswith(SUFFIX)


class ParquetDataset:
    """Rows of a Parquet data set by number. Pickles as its path; safe to read from many threads.

    Raises:
        DataError: the data set is missing, unfinished or of another version.
    """

    shares = ()

    def __init__(self, path: str | Path) -> None:
        self._path = as_path(path)
        self._lock = threading.Lock()
        if exists(self._path):
            part = ParquetPart(self._path)
            self._manifest = Manifest(((self._path.name, len(part)),), (self._path.stem,))
            self._folder, self._parts = self._path.parent, {0: part}
        else:
            self._manifest = _read_manifest(self._path)
            self._folder, self._parts = self._path, {}
        counts = [rows for _, rows in self._manifest.parts]
        self._first_row = np.concatenate([[0], np.cumsum(np.array(counts, np.int64))])

    def __len__(self) -> int:
        return int(self._first_row[-1])

    def __reduce__(self) -> tuple[type[ParquetDataset], tuple[str]]:
        return ParquetDataset, (str(self._path),)

    @property
    def name(self) -> str:
        """Path or URL of the data set."""
        return str(self._path)

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the data sets that it was converted from."""
        return self._manifest.sources

    @property
    def remote(self) -> bool:
        """Whether reading a row is a request over the network."""
        return is_url(self._path)

    def key(self, row_id: int) -> str:
        """Key of a row."""
        return self._read(row_id, ["key"])["key"]

    def key_or_number(self, row_id: int) -> str:
        """Key of a row, or `row N` where not even the key can be read: for reports."""
        try:
            return self.key(row_id)
        except DataError:
            return f"row {row_id}"

    def source(self, row_id: int) -> int:
        """Which of `source_names` a row comes from."""
        return self._read(row_id, ["source"])["source"]

    def row(self, row_id: int) -> Row:
        """Read one row; numbers of the label are arrays.

        Raises:
            DataError: the row does not exist or is broken; names file, row and key.
        """
        values = self._read(row_id, _NEEDED)
        if values["label_json"]:
            return self._make_row(row_id, values, json.loads(values["label_json"]))
        sizes = self._part(row_id)[0].sizes
        label: dict[str, Any] = {
            metro: values[name].reshape(sizes.shape(name)) if sizes.shape(name) else values[name]
            for name, metro in ARRAYS.items()
        }
        for name, metro in FLAGS.items():
            label["has_mesh" if name == "has_mesh" else metro] = int(values[name])
        if values["body_model"]:
            label["body_model"] = values["body_model"]
        return self._make_row(row_id, values, label)

    def exact_row(self, row_id: int) -> Row:
        """As `row`, but the label is the record that was written, to the last detail."""
        values = self._read(row_id, _EXACT)
        sizes = self._part(row_id)[0].sizes
        return self._make_row(row_id, values, decode_label(values, sizes))

    def describe(self) -> str:
        """One line for the log: name, rows, files."""
        return f"{self.name}: {len(self)} rows in {len(self._manifest.parts)} Parquet files"

    def stamp(self) -> str:
        """Changes with the files."""
        return "; ".join(file_stamp(self._folder / name) for name, _ in self._manifest.parts)

    def _make_row(self, row_id: int, values: dict[str, Any], label: dict[str, Any]) -> Row:
        part, row = self._part(row_id)
        return Row(
            key=values["key"],
            image_bytes=values[IMAGE],
            label=label,
            hw=(values["height"], values["width"]),
            source=values["source"],
            where=f"{part.file.path}: row {row}",
        )

    def _read(self, row_id: int, names: Sequence[str]) -> dict[str, Any]:
        part, row = self._part(row_id)
        return part.read(row, names)

    def _part(self, row_id: int) -> tuple[ParquetPart, int]:
        """The part of a row, opened when it is first needed, and the row in it."""
        if not 0 <= row_id < len(self):
            raise DataError(
                f"{self.name}: row {row_id} does not exist, the data set has {len(self)} rows"
            )
        index = int(np.searchsorted(self._first_row, row_id, side="right")) - 1
        part = self._parts.get(index)
        if part is None:
            part = self._open_part(index)
        return part, row_id - int(self._first_row[index])

    def _open_part(self, index: int) -> ParquetPart:
        name, rows = self._manifest.parts[index]
        with self._lock:
            if index not in self._parts:
                part = ParquetPart(self._folder / name)
                if len(part) != rows:
                    raise DataError(
                        f"{self._folder / name} has {len(part)} rows, {MANIFEST} says {rows}; "
                        "the files belong to different data sets, copy or convert it again"
                    )
                self._parts[index] = part
            return self._parts[index]


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not exists(path):
        raise DataError(
            f"data set {folder} does not exist or is unfinished: there is no {path}; if a "
            "conversion was stopped, start it again and it goes on"
        )
    try:
        content = json.loads(read_bytes(path))
        version = content["version"]
        parts = tuple((str(part["file"]), int(part["rows"])) for part in content["parts"])
        sources = tuple(str(name) for name in content["sources"])
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: not the {MANIFEST} of a data set ({error})") from error
    if version != VERSION:
        raise DataError(f"{path}: version {version}, this program reads version {VERSION}")
    return Manifest(parts, sources)
