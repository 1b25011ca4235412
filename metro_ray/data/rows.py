"""What every stored data set looks like to its readers: rows by number.

`TsvDataset`, `ParquetDataset` and mixtures of them implement `RowDataset`; nothing behind
`open_dataset` asks which one it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from metro_ray.data.plan import Share


class Row(NamedTuple):
    """One row as it is stored, decoded no further than bytes and JSON."""

    key: str
    image_bytes: bytes
    """The encoded image (JPEG or PNG)."""
    label: Mapping[str, Any]
    """METRO's label fields, lists or arrays; see `labels.py`."""
    hw: tuple[int, int] | None
    """Height and width that the file claims, in pixels; never used for geometry."""
    source: int
    """Which source of a composite data set or of a mixture."""
    where: str = ""
    """Files and row number, for messages."""


class RowDataset(Protocol):
    """Rows by number. Pickles as its paths; safe to read from many threads."""

    @property
    def name(self) -> str:
        """What was opened, for messages."""
        ...

    def __len__(self) -> int: ...

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the sources that rows come from; one for a plain data set."""
        ...

    @property
    def shares(self) -> tuple[Share, ...]:
        """What each source gives to an epoch of training; empty: every row once."""
        ...

    @property
    def remote(self) -> bool:
        """Whether a row costs a request over the network, so that several should be under way."""
        ...

    def key(self, row_id: int) -> str:
        """Key of a row.

        Raises:
            DataError: No such row, or its key cannot be read.
        """
        ...

    def key_or_number(self, row_id: int) -> str:
        """Key of a row, or `row N` where not even the key can be read: for reports."""
        ...

    def row(self, row_id: int) -> Row:
        """Read one row.

        Raises:
            DataError: The row does not exist or is broken; names file, row and key.
        """
        ...

    def source(self, row_id: int) -> int:
        """Number of the source that a row comes from."""
        ...

    def describe(self) -> str:
        """One line for the log: name, rows, files."""
        ...

    def stamp(self) -> str:
        """Text that is another when the data may be: file names, sizes, times, order of rows."""
        ...


def exact_row(dataset: RowDataset, row_id: int) -> Row:
    """One row with its label record to the last detail, for converters.

    Formats whose `row` gives something equal but quicker to use have a method of this name.

    Raises:
        DataError: As `RowDataset.row`.
    """
    return getattr(dataset, "exact_row", dataset.row)(row_id)


@runtime_checkable
class KeyedFiles(Protocol):
    """A data set whose rows are spread over several files that each name the row's key."""

    def file_keys(self, row_id: int) -> dict[str, str]:
        """The key that each file gives a row, by file name; empty where one file holds it all.

        Raises:
            DataError: no such row, or a key cannot be read.
        """
        ...

    def file_rows(self) -> list[dict[str, int]]:
        """For each group of files that belong together, their numbers of rows by file name."""
        ...
