"""Random access to the rows of one Parquet file.

The rows of an epoch come in a global random order, and Parquet readers can only decode whole row
groups. So our writer stores each column of a row group as one plain, uncompressed page of values
that cannot be null, in which the place of every row is known by arithmetic; reading a row is then
a handful of ranged reads, as from a TSV but without base64 and JSON. The layout of each row group
is checked when its first row is read. A file that was rewritten by another tool is still read, a
row group at a time, which is slow; a warning says so once.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metro_ray.data.parquet_schema import (
    ARRAYS,
    FLAGS,
    IMAGE,
    INTS,
    TEXTS,
    LabelSizes,
    sizes_of,
)
from metro_ray.data.storage import RangeFile, with_retries
from metro_ray.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    import pyarrow.parquet as pq

_LOG = logging.getLogger(__name__)
_HEADER_BYTES = 64
_KEPT_GROUPS = 2
_CUT_STATISTICS = 32
"""Texts from this length on may be cut in the statistics that some tools write."""
_NEXT_NUMBER = 0x15
_DATA_PAGE = b"\x2c\x15"
"""Field 5 of a page header, a structure, and its field 1, a number."""


class ParquetPart:
    """One Parquet file; safe to read from many threads.

    Raises:
        DataError: not a file of this layout.
    """

    def __init__(self, path: Path) -> None:
        self.file = RangeFile(path)
        metadata, schema, lengths = self._read_footer()
        self.sizes: LabelSizes = sizes_of(schema, str(path))
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        rows = np.array([group.num_rows for group in groups], np.int64)
        self._first_row = np.concatenate([[0], np.cumsum(rows)])
        self._columns = {
            name: _Column(groups, index) for index, name in enumerate(_leaf_names(metadata))
        }
        self._image_end = _image_ends(self._columns[IMAGE], lengths, self._first_row)
        self._image_length = lengths
        self._checked = np.zeros(len(groups), bool)
        self._lock = threading.Lock()
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()
        self._plain = all(column.plain for column in self._columns.values())
        if not self._plain:
            self._warn("a column is compressed or has a dictionary")

    def __len__(self) -> int:
        return int(self._first_row[-1])

    def read(self, row: int, names: Sequence[str]) -> dict[str, Any]:
        """Values of some columns of a row; arrays are flat.

        Raises:
            DataError: the row cannot be read.
        """
        group = int(np.searchsorted(self._first_row, row, side="right")) - 1
        if self._plain and not self._checked[group]:
            self._check(group)
        if not self._plain:
            return self._read_slowly(group, row - int(self._first_row[group]), names)
        index, count = row - int(self._first_row[group]), self._num_rows(group)
        wanted, values = [], {}
        for name in names:
            constant = self._columns[name].constants[group]
            if constant is not None:
                values[name] = constant
            else:
                wanted.append((name, self._range(name, group, index, count, row)))
        found = self.file.read_many([place for _, place in wanted])
        for (name, _), data in zip(wanted, found, strict=True):
            values[name] = self._decode(name, data, index, row)
        return values

    def _num_rows(self, group: int) -> int:
        return int(self._first_row[group + 1] - self._first_row[group])

    def _range(self, name: str, group: int, index: int, count: int, row: int) -> tuple[int, int]:
        """Bytes of the file that hold one value (of a text column: the whole page)."""
        column = self._columns[name]
        end = int(column.end[group])
        if name in TEXTS:
            return int(column.start[group]), end
        if name == IMAGE:
            stop = int(self._image_end[row])
            return stop - int(self._image_length[row]) - 4, stop
        if name in FLAGS:
            byte = end - (count + 7) // 8 + index // 8
            return byte, byte + 1
        width = self._width(name)
        start = end - (count - index) * width
        return start, start + width

    def _width(self, name: str) -> int:
        return 4 if name in INTS else 8 * self.sizes.count(name)

    def _decode(self, name: str, data: bytes, index: int, row: int) -> Any:
        if name in TEXTS:
            return _text_value(data, index)
        if name == IMAGE:
            length = int.from_bytes(data[:4], "little")
            if length != self._image_length[row] or len(data) != length + 4:
                raise DataError(
                    f"{self.file.path}: row {row}: the image has {self._image_length[row]} bytes "
                    f"by its image_num_bytes but {length} in the file; the file is damaged"
                )
            return data[4:]
        if name in FLAGS:
            return bool(data[0] >> (index % 8) & 1)
        if name in INTS:
            return int.from_bytes(data, "little", signed=True)
        values = np.frombuffer(data, "<f8")
        return float(values[0]) if self.sizes.shape(name) == () else values

    def _check(self, group: int) -> None:
        """Whether each column of a row group really is one page, as the arithmetic assumes."""
        places = [
            (int(c.start[group]), min(int(c.start[group]) + _HEADER_BYTES, int(c.end[group])))
            for c in self._columns.values()
        ]
        count = self._num_rows(group)
        for name, header in zip(self._columns, self.file.read_many(places), strict=True):
            expected = count * (self.sizes.count(name) if name in ARRAYS else 1)
            if _page_values(header) != expected:
                self._plain = False
                self._warn(f"column {name} has several pages in a row group")
                return
        self._checked[group] = True

    def _read_slowly(self, group: int, index: int, names: Sequence[str]) -> dict[str, Any]:
        with self._lock:
            table = self._tables.get(group)
            if table is None:
                table = with_retries(
                    f"reading row group {group} of {self.file.path}",
                    lambda: self._open().read_row_group(group),
                )
                self._tables[group] = table
                while len(self._tables) > _KEPT_GROUPS:
                    self._tables.popitem(last=False)
        values = {}
        for name in names:
            value = table.column(name)[index].as_py()
            if value is None:
                row = index + int(self._first_row[group])
                raise DataError(f"{self.file.path}: row {row}: column {name} is null")
            values[name] = np.asarray(value) if isinstance(value, list) else value
        return values

    def _open(self) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.file.path.open("rb"))

    def _read_footer(self) -> tuple[pq.FileMetaData, pa.Schema, np.ndarray]:
        import pyarrow as pa

        def read() -> tuple[pq.FileMetaData, pa.Schema, np.ndarray]:
            with self._open() as file:
                schema = file.schema_arrow
                sizes_of(schema, str(self.file.path))
                lengths = file.read(["image_num_bytes"]).column(0).to_numpy()
                return file.metadata, schema, lengths.astype(np.int64)

        try:
            return with_retries(f"reading the footer of {self.file.path}", read)
        except (pa.ArrowInvalid, pa.ArrowException) as error:
            raise DataError(
                f"{self.file.path}: not a whole Parquet file ({error}); copy it again"
            ) from error

    def _warn(self, reason: str) -> None:
        _LOG.warning(
            "%s: %s, so each row costs reading its whole row group; `metro-ray data convert` "
            "writes it for random access",
            self.file.path,
            reason,
        )


class _Column:
    """Where the chunks of one column lie, by row group."""

    def __init__(self, groups: Sequence[Any], index: int) -> None:
        chunks = [group.column(index) for group in groups]
        self.start = np.array([chunk.data_page_offset for chunk in chunks], np.int64)
        sizes = np.array([chunk.total_compressed_size for chunk in chunks], np.int64)
        self.end = self.start + sizes
        self.plain = all(
            chunk.compression == "UNCOMPRESSED" and not chunk.has_dictionary_page
            for chunk in chunks
        )
        self.constants = [_constant(chunk) for chunk in chunks]


def _constant(chunk: Any) -> Any:
    """The value of a column whose values in a row group are all the same, by its statistics."""
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max or statistics.min != statistics.max:
        return None
    value = statistics.min
    may_be_cut = isinstance(value, str | bytes) and len(value) >= _CUT_STATISTICS
    return None if may_be_cut else value


def _leaf_names(metadata: pq.FileMetaData) -> list[str]:
    return [metadata.schema.column(i).path.split(".")[0] for i in range(metadata.num_columns)]


def _image_ends(column: _Column, lengths: np.ndarray, first_row: np.ndarray) -> np.ndarray:
    """Where the bytes of each image end: the values are the last thing in a chunk."""
    total = np.cumsum(lengths + 4)
    group = np.repeat(np.arange(len(column.end)), np.diff(first_row))
    return column.end[group] - (total[first_row[1:] - 1][group] - total)


def _page_values(header: bytes) -> int:
    """Number of values in a page by its header (Thrift compact protocol); -1 if it is another kind.

    A data page's header begins with type, uncompressed and compressed size, then a structure whose
    first field is the number of values.
    """
    position = 0
    try:
        for _ in range(3):
            if header[position] != _NEXT_NUMBER:
                return -1
            _, position = _varint(header, position + 1)
        if header[position : position + 2] != _DATA_PAGE:
            return -1
        return _varint(header, position + 2)[0] >> 1
    except IndexError:
        return -1


def _text_value(page: bytes, index: int) -> str:
    """Value `index` of a page of texts: each is its length (4 bytes) and its UTF-8 bytes."""
    position = 1
    for _ in range(2):  # page type, uncompressed size
        _, position = _varint(page, position)
        position += 1
    size = _varint(page, position)[0] >> 1
    position = len(page) - size
    for _ in range(index):
        position += 4 + int.from_bytes(page[position : position + 4], "little")
    length = int.from_bytes(page[position : position + 4], "little")
    return page[position + 4 : position + 4 + length].decode("utf-8")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number in 7-bit groups and the position behind it (twice its value: zigzag)."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
