"""Write data sets in Parquet, laid out so that single rows can be read (see `parquet_pages.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from metro_ray.data.parquet import MANIFEST, SUFFIX, Manifest
from metro_ray.data.parquet_schema import (
    ARRAYS,
    DEFAULT_SIZES,
    FLAGS,
    IMAGE,
    INTS,
    TEXTS,
    LabelSizes,
    arrow_schema,
    encode_label,
    record_sizes,
)
from metro_ray.data.storage import as_path, is_url
from metro_ray.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS = 128
"""Rows of a row group: their key page is read for each of them, so not too many."""
_ONE_PAGE = 1 << 30


class ParquetPartWriter:
    """Write one part; it appears under its name when it is whole."""

    def __init__(self, path: str | Path, sizes: LabelSizes | None = None) -> None:
        """Start a part.

        Args:
            path: where the part goes; a path or a URL.
            sizes: of the label's arrays; those of the first whole label when left out.
        """
        self.path = as_path(path)
        self._target = self.path if is_url(self.path) else _partial(self.path)
        self._sizes = sizes
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None
        self._file: Any = None
        self.num_rows = 0

    def add(
        self,
        key: str,
        image_bytes: bytes,
        label: Mapping[str, Any],
        height: int,
        width: int,
        *,
        source: int = 0,
        origin: str = "",
    ) -> None:
        """Append one row.

        Args:
            key: name of the row.
            image_bytes: encoded image (JPEG or PNG).
            label: METRO's label record; kept as it is, broken ones too.
            height: height of the image, pixels.
            width: width of the image, pixels.
            source: number of the source in the data set's list.
            origin: where the row came from, for people.
        """
        numbers = (len(image_bytes), int(height), int(width), int(source))
        row = {"key": key, "origin": origin, IMAGE: bytes(image_bytes), "label": dict(label)}
        self._rows.append(row | dict(zip(INTS, numbers, strict=True)))
        self.num_rows += 1
        if len(self._rows) == GROUP_ROWS:
            self._flush()

    def finish(self) -> int:
        """Publish the part and return its number of rows."""
        self._flush()
        self._writer.close()
        self._file.close()
        if self._target != self.path:
            self._target.replace(self.path)
        return self.num_rows

    def discard(self) -> None:
        """Remove what was written so far."""
        if self._writer is not None:
            self._writer.close()
            self._file.close()
        self._target.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._writer is None:
            self._open()
        if not self._rows:
            return
        assert self._sizes is not None
        assert self._writer is not None
        labels = [encode_label(row.pop("label"), self._sizes) for row in self._rows]
        rows = [row | label for row, label in zip(self._rows, labels, strict=True)]
        self._writer.write_table(_table(rows, self._sizes), row_group_size=GROUP_ROWS)
        self._rows = []

    def _open(self) -> None:
        import pyarrow.parquet as pq

        if self._sizes is None:
            found = (record_sizes(row["label"]) for row in self._rows)
            self._sizes = next((sizes for sizes in found if sizes), DEFAULT_SIZES)
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._target.open("wb")
        self._writer = pq.ParquetWriter(
            self._file,
            arrow_schema(self._sizes),
            compression="none",
            use_dictionary=False,
            write_statistics=[*TEXTS, *FLAGS],  # type: ignore[arg-type] - names are allowed too
            data_page_size=_ONE_PAGE,
        )


class ParquetDatasetWriter:
    """Write `<folder>/<name>.parquet/` with its parts and `dataset.json`.

    Example:
        with ParquetDatasetWriter(folder, "train") as writer:
            writer.add(key, jpeg_bytes, label, height, width)

    Leaving the block normally publishes the data set; an exception removes what was written.
    """

    def __init__(
        self,
        folder: str | Path,
        name: str,
        *,
        sources: Sequence[str] = (),
        rows_per_part: int = 4096,
    ) -> None:
        self.path = as_path(folder) / f"{name}{SUFFIX}"
        self._sources = tuple(sources) or (name,)
        self._rows_per_part = rows_per_part
        self._parts: list[tuple[str, int]] = []
        self._part: ParquetPartWriter | None = None

    def add(
        self,
        key: str,
        image_bytes: bytes,
        label: Mapping[str, Any],
        height: int,
        width: int,
        *,
        source: int = 0,
        origin: str = "",
    ) -> None:
        """Append one row; arguments as in `ParquetPartWriter.add`."""
        if self._part is None:
            self._part = ParquetPartWriter(self.path / part_name(len(self._parts)))
        self._part.add(key, image_bytes, label, height, width, source=source, origin=origin)
        if self._part.num_rows == self._rows_per_part:
            self._finish_part()

    def finish(self) -> Path:
        """Publish the data set and return its path."""
        self._finish_part()
        write_manifest(self.path, Manifest(tuple(self._parts), self._sources))
        return self.path

    def discard(self) -> None:
        """Remove what was written so far."""
        if self._part is not None:
            self._part.discard()
        for name, _ in self._parts:
            (self.path / name).unlink(missing_ok=True)

    def _finish_part(self) -> None:
        if self._part is not None:
            self._parts.append((self._part.path.name, self._part.finish()))
            self._part = None

    def __enter__(self) -> ParquetDatasetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()


def part_name(index: int) -> str:
    """File name of a part."""
    return f"part-{index:05d}{SUFFIX}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `dataset.json`, which makes the parts a data set.

    Raises:
        DataError: there are no rows.
    """
    if not sum(rows for _, rows in manifest.parts):
        raise DataError(f"{folder}: there are no rows to write")
    path = folder / MANIFEST
    text = manifest.to_json().encode()
    if is_url(path):
        path.write_bytes(text)
        return
    partial = _partial(path)
    partial.write_bytes(text)
    partial.replace(path)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _table(rows: Sequence[Mapping[str, Any]], sizes: LabelSizes) -> pa.Table:
    import pyarrow as pa

    schema = arrow_schema(sizes)
    columns = {}
    for name in schema.names:
        kind, values = schema.field(name).type, [row[name] for row in rows]
        if name not in ARRAYS:
            columns[name] = pa.array(values, kind)
            continue
        flat = pa.array(np.concatenate([value.ravel() for value in values]))
        lists = sizes.shape(name) != ()
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, type=kind) if lists else flat
    return pa.table(columns, schema=schema)
