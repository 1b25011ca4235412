"""The text of METRO's TSV rows: base64 images, JSON labels, sizes, linelists.

Every fault is a DataError that names file, row and key.
"""

from __future__ import annotations

import binascii
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pybase64
from jaxtyping import Int

from metro_ray.data.storage import read_bytes
from metro_ray.data.tsv import TsvFile
from metro_ray.errors import DataError


def read_columns(file: TsvFile, row: int, expected: str) -> list[bytes]:
    """Columns of a row that must have at least two."""
    columns = file.read_row(row)
    if len(columns) < 2:
        raise DataError(
            f"{file.path}: row {row}: expected {expected}, found no tab in {columns[0][:80]!r}"
        )
    return columns


def decode_key(column: bytes, file: TsvFile, row: int) -> str:
    """The key of a row."""
    try:
        return column.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file.path}: row {row}: the key is not UTF-8 text: {error}") from error


def decode_image_column(column: bytes | memoryview, file: TsvFile, row: int, key: str) -> bytes:
    """base64 text -> bytes of the encoded image."""
    if not column:
        raise DataError(
            f"{file.path}: row {row} ({key}): the image column is empty; write the row again"
        )
    try:
        return pybase64.b64decode(column, validate=True)
    except binascii.Error as error:
        raise DataError(
            f"{file.path}: row {row} ({key}): the image is not whole base64 text ({error}); "
            "the file is cut or was edited, copy it again"
        ) from error


def decode_label_column(column: bytes, file: TsvFile, row: int, key: str) -> dict[str, Any]:
    """JSON list of records -> record 0 (the others are ignored, as METRO does)."""
    where = f"{file.path}: row {row} ({key})"
    try:
        records = _decode_json(column)
    except ValueError as error:
        raise DataError(
            f"{where}: the label is not JSON ({error}); the file is cut or damaged"
        ) from error
    if not isinstance(records, list):
        raise DataError(
            f"{where}: the label must be a JSON list of records, got {type(records).__name__}"
        )
    if not records:
        raise DataError(f"{where}: the label list is empty; leave the row out of the linelist")
    if not isinstance(records[0], dict):
        raise DataError(f"{where}: the label must hold a record, got {type(records[0]).__name__}")
    return records[0]


def decode_size_column(column: bytes, file: TsvFile, row: int, key: str) -> tuple[int, int]:
    """`[{"height": h, "width": w}]` or `h w` -> (height, width) in pixels."""
    try:
        if column.lstrip().startswith(b"["):
            record = _decode_json(column)[0]
            return int(record["height"]), int(record["width"])
        height, width = column.split()
        return int(height), int(width)
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f'{file.path}: row {row} ({key}): expected [{{"height": h, "width": w}}] or "h w", '
            f"got {column[:80]!r}"
        ) from error


def _decode_json(text: bytes) -> Any:
    """What `json.loads` makes of it, NaN and other habits of old files included, but sooner."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError):
        return json.loads(text)


def read_linelist(path: Path, num_columns: int) -> Int[np.ndarray, "rows columns"]:
    """Row numbers (one column), or source and row number (two columns).

    Raises:
        DataError: a line that is not that many whole numbers; blank lines count as such.
    """
    listed = []
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        try:
            values = [int(column) for column in line.split(b"\t")]
        except ValueError:
            values = []
        if len(values) != num_columns:
            expected = "one row number" if num_columns == 1 else "source<TAB>row number"
            raise DataError(f"{path}: line {number}: expected {expected}, got {line[:80]!r}")
        listed.append(values)
    return np.array(listed, dtype=np.int64).reshape(-1, num_columns)
