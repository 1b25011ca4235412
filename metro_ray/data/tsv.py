"""Random access to the rows of one TSV file through its line index.

`x.tsv` holds one row a line, columns separated by tabs; `x.lineidx` holds the byte offset of each
row, one a line. The number of rows is the number of lines of the index; the TSV itself is never
scanned. METRO trusts the index blindly, so a stale one gives it garbage; here every offset is
checked to lie inside the file, in order, and directly behind a newline when its row is read.

Offsets count bytes. (METRO's own writer counts characters, which is wrong as soon as a key is not
ASCII; such a file is reported as stale here, and `build_lineidx` repairs it.)

Files may lie on this machine or behind any fsspec URL (see `storage.py`).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Int

from metro_ray.data.storage import RangeFile, as_path, exists, read_bytes
from metro_ray.errors import DataError

_CHUNK = 1 << 16
_KEY_CHUNK = 1 << 9
_REBUILD = "build its index again with metro_ray.data.tsv.build_lineidx"


def lineidx_path(path: Path) -> Path:
    """`train.img.tsv` -> `train.img.lineidx`."""
    return path.with_suffix(".lineidx")


class TsvFile:
    """One TSV file; cheap to pickle (its path) and safe to read from many threads.

    Raises:
        DataError: the file or its index is missing, or the index does not fit the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = RangeFile(path)
        self._offsets: Int[np.ndarray, " rows"] = _load_lineidx(self._file)

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._file.path

    @property
    def remote(self) -> bool:
        """Whether each row is a request over the network."""
        return self._file.remote

    def __len__(self) -> int:
        return len(self._offsets)

    def __reduce__(self) -> tuple[type[TsvFile], tuple[str]]:
        return TsvFile, (str(self.path),)

    def read_row(self, row: int) -> list[bytes]:
        """Columns of row `row` (0-based), without the line's end (LF or CRLF).

        Raises:
            DataError: no such row, or the index points between two rows.
        """
        data, start, stop = self._read_line(row)
        return data[start:stop].split(b"\t")

    def read_last_column(self, row: int) -> memoryview:
        """The last column of a row, which is the image of an image file, without copying it.

        Raises:
            DataError: as `read_row`.
        """
        data, start, stop = self._read_line(row)
        tab = data.rfind(b"\t", start, stop)
        return memoryview(data)[(start if tab < 0 else tab + 1) : stop]

    def read_key(self, row: int) -> bytes:
        """The first column of a row, reading no more of its line than that takes.

        Raises:
            DataError: no such row.
        """
        if not 0 <= row < len(self):
            raise DataError(f"{self.path}: row {row} does not exist, the file has {len(self)} rows")
        start, data = int(self._offsets[row]), b""
        while True:
            part = self._file.read(start + len(data), start + len(data) + _KEY_CHUNK)
            data += part
            if not part or b"\t" in part or b"\n" in part:
                return data.split(b"\n", 1)[0].split(b"\t", 1)[0].removesuffix(b"\r")

    def _read_line(self, row: int) -> tuple[bytes, int, int]:
        """Bytes that hold a row, and where in them it begins and ends."""
        if not 0 <= row < len(self):
            raise DataError(f"{self.path}: row {row} does not exist, the file has {len(self)} rows")
        start = int(self._offsets[row])
        end = int(self._offsets[row + 1]) if row + 1 < len(self) else None
        before = start > 0
        data = self._read(start - before, end)
        if before and data[:1] != b"\n":
            raise self._stale(row, f"byte {start} is not the beginning of a line")
        stop = data.find(b"\n", before)
        if stop < 0 and end is not None:
            raise self._stale(
                row, f"its line runs on past byte {end}, where the next row should begin"
            )
        stop = len(data) if stop < 0 else stop
        stop -= data.endswith(b"\r", before, stop)
        return data, before, stop

    def _read(self, start: int, end: int | None) -> bytes:
        """Bytes [start, end), or from start to the end of its line."""
        if end is not None:
            return self._file.read(start, end)
        parts = [self._file.read(start, start + _CHUNK)]
        while parts[-1] and b"\n" not in parts[-1][1 if len(parts) == 1 else 0 :]:
            start += len(parts[-1])
            parts.append(self._file.read(start, start + _CHUNK))
        return b"".join(parts)

    def _stale(self, row: int, what: str) -> DataError:
        return DataError(
            f"{self.path}: row {row}: {what}. {lineidx_path(self.path).name} does not belong to "
            f"this file; {_REBUILD}"
        )


def _load_lineidx(file: RangeFile) -> Int[np.ndarray, " rows"]:
    path = file.path
    index = lineidx_path(path)
    if not exists(index):
        raise DataError(
            f"{path}: its line index {index.name} is missing; copy it beside the file or {_REBUILD}"
        )
    try:
        offsets = np.array([int(line) for line in read_bytes(index).split()], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{index}: expected one byte offset a line ({error})") from error
    if len(offsets) and (offsets[0] != 0 or np.any(np.diff(offsets) <= 0)):
        raise DataError(f"{index}: offsets must begin with 0 and increase; {_REBUILD}")
    outside = np.flatnonzero(offsets >= file.size)
    if len(outside):
        raise DataError(
            f"{index}: row {outside[0]} begins at byte {offsets[outside[0]]}, but {path.name} has "
            f"only {file.size} bytes: the file is cut or the index is another file's; copy the "
            f"file again, or keep it and {_REBUILD}"
        )
    return offsets


def build_lineidx(path: str | os.PathLike[str]) -> int:
    """Write the line index of a local TSV file in one pass over it, and return the number of rows.

    Raises:
        DataError: the file does not exist.
    """
    path = as_path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    index = lineidx_path(path)
    partial = index.with_name(index.name + ".partial")
    offset = rows = 0
    with path.open("rb") as source, partial.open("w", encoding="ascii", newline="\n") as target:
        for line in source:
            target.write(f"{offset}\n")
            offset += len(line)
            rows += 1
    partial.replace(index)
    return rows
