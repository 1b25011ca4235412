"""Random access to the rows of one TSV file through its line index.

`x.tsv` holds one row a line, columns separated by tabs; `x.lineidx` holds the byte offset of each
row, one a line. The number of rows is the number of lines of the index; the TSV itself is never
scanned. METRO trusts the index blindly, so a stale one gives it garbage; here every offset is
checked to lie inside the file, in order, and directly behind a newline when its row is read.

Offsets count bytes. (METRO's own writer counts characters, which is wrong as soon as a key is not
ASCII; such a file is reported as stale here, and `build_lineidx` repairs it.)
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Int

from metro_ray.errors import DataError

_CHUNK = 1 << 16
_REBUILD = "build its index again with metro_ray.data.tsv.build_lineidx"


def lineidx_path(path: Path) -> Path:
    """`train.img.tsv` -> `train.img.lineidx`."""
    return path.with_suffix(".lineidx")


class TsvFile:
    """One TSV file; cheap to pickle (its path) and safe to read from many threads.

    Raises:
        DataError: the file or its index is missing, or the index does not fit the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self._offsets: Int[np.ndarray, " rows"] = _load_lineidx(self.path)
        self._descriptor = os.open(self.path, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self._offsets)

    def __reduce__(self) -> tuple[type[TsvFile], tuple[Path]]:
        return TsvFile, (self.path,)

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    def read_row(self, row: int) -> list[bytes]:
        """Columns of row `row` (0-based), without the line's end (LF or CRLF).

        Raises:
            DataError: no such row, or the index points between two rows.
        """
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
        return data[before:stop].split(b"\t")

    def _read(self, start: int, end: int | None) -> bytes:
        """Bytes [start, end), or from start to the end of its line."""
        if end is not None:
            return os.pread(self._descriptor, end - start, start)
        parts = [os.pread(self._descriptor, _CHUNK, start)]
        while parts[-1] and b"\n" not in parts[-1][1 if len(parts) == 1 else 0 :]:
            start += len(parts[-1])
            parts.append(os.pread(self._descriptor, _CHUNK, start))
        return b"".join(parts)

    def _stale(self, row: int, what: str) -> DataError:
        return DataError(
            f"{self.path}: row {row}: {what}. {lineidx_path(self.path).name} does not belong to "
            f"this file; {_REBUILD}"
        )


def _load_lineidx(path: Path) -> Int[np.ndarray, " rows"]:
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    index = lineidx_path(path)
    if not index.is_file():
        raise DataError(
            f"{path}: its line index {index.name} is missing; copy it beside the file or {_REBUILD}"
        )
    try:
        offsets = np.array([int(line) for line in index.read_bytes().split()], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{index}: expected one byte offset a line ({error})") from error
    size = path.stat().st_size
    if len(offsets) and (offsets[0] != 0 or np.any(np.diff(offsets) <= 0)):
        raise DataError(f"{index}: offsets must begin with 0 and increase; {_REBUILD}")
    outside = np.flatnonzero(offsets >= size)
    if len(outside):
        raise DataError(
            f"{index}: row {outside[0]} begins at byte {offsets[outside[0]]}, but {path.name} has "
            f"only {size} bytes: the file is cut or the index is another file's; copy the file "
            f"again, or keep it and {_REBUILD}"
        )
    return offsets


def build_lineidx(path: str | Path) -> int:
    """Write the line index of a TSV file in one pass over it, and return the number of rows.

    Raises:
        DataError: the file does not exist.
    """
    path = Path(path)
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
