"""Data sets in METRO's TSV layout: a YAML that names image, label, size and linelist files.

Plain:      img, label, hw, linelist name one file each (hw and linelist may be left out).
Composite:  `composite: true`; img, label and hw are lists of files (or the name of a text file with
one file a line), and the
            linelist's rows are `source<TAB>row`; the data set is the linelist in its order.

Names are looked up in the current folder first and beside the YAML second. That is METRO's rule;
because it lets a stray file in the current folder win silently, a warning names both files when
both exist. A linelist may skip, reorder and repeat rows, and count them from the end with negative
numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from metro_ray.data.dataset_yaml import file_name, file_names, find_file, load_yaml
from metro_ray.data.mixture import MIXTURE, open_mixture
from metro_ray.data.parquet import MANIFEST, ParquetDataset, is_parquet
from metro_ray.data.row_text import (
    decode_image_column,
    decode_key,
    decode_label_column,
    decode_size_column,
    read_columns,
    read_linelist,
)
from metro_ray.data.rows import Row, RowDataset
from metro_ray.data.storage import as_path, exists, file_stamp, is_url
from metro_ray.data.tsv import TsvFile
from metro_ray.errors import DataError

if TYPE_CHECKING:
    from metro_ray.bodies.spec import MeshSpec


_LOOKED_AT = 10


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of one source; keys come from the hw file where there is one."""

    img: TsvFile
    label: TsvFile
    hw: TsvFile | None

    def all(self) -> list[TsvFile]:
        return [file for file in (self.img, self.label, self.hw) if file is not None]


class TsvDataset:
    """Rows of a data set YAML by number. Pickles as paths; safe to read from many threads."""

    def __init__(
        self,
        name: str,
        files: Sequence[_Files],
        sources: Int[np.ndarray, " rows"],
        rows: Int[np.ndarray, " rows"],
    ) -> None:
        self.name = name
        self._files = list(files)
        self._sources = sources
        self._rows = rows

    shares = ()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the image files that a composite data set is made of; one for a plain one."""
        return tuple(files.img.path.name.removesuffix(".img.tsv") for files in self._files)

    @property
    def remote(self) -> bool:
        """Whether reading a row is a request over the network."""
        return any(file.remote for files in self._files for file in files.all())

    def key(self, row_id: int) -> str:
        """Key of a row: column 0 of its hw row, else of its label row."""
        files, row = self._locate(row_id)
        file = files.label if files.hw is None else files.hw
        return decode_key(file.read_row(row)[0], file, row)

    def key_or_number(self, row_id: int) -> str:
        """Key of a row, or `row N` where not even the key can be read: for reports."""
        try:
            return self.key(row_id)
        except DataError:
            return f"row {row_id}"

    def row(self, row_id: int) -> Row:
        """Read one row.

        Raises:
            DataError: the row does not exist or its text is broken; names file, row and key.
        """
        files, row = self._locate(row_id)
        label_columns = read_columns(files.label, row, "key<TAB>JSON list of records")
        key, hw = decode_key(label_columns[0], files.label, row), None
        if files.hw is not None:
            hw_columns = read_columns(files.hw, row, "key<TAB>size")
            key = decode_key(hw_columns[0], files.hw, row)
            hw = decode_size_column(hw_columns[1], files.hw, row, key)
        image_column = files.img.read_last_column(row)
        return Row(
            key=key,
            image_bytes=decode_image_column(image_column, files.img, row, key),
            label=decode_label_column(label_columns[1], files.label, row, key),
            hw=hw,
            source=int(self._sources[row_id]),
            where=f"{files.img.path} and {files.label.path.name}: row {row}",
        )

    def file_keys(self, row_id: int) -> dict[str, str]:
        """The key that each file gives a row, by file name."""
        files, row = self._locate(row_id)
        return {file.path.name: decode_key(file.read_key(row), file, row) for file in files.all()}

    def file_rows(self) -> list[dict[str, int]]:
        """For each source, the numbers of rows of its files by file name."""
        return [{file.path.name: len(file) for file in files.all()} for files in self._files]

    def source(self, row_id: int) -> int:
        """Which file of a composite data set a row comes from."""
        self._locate(row_id)
        return int(self._sources[row_id])

    def describe(self) -> str:
        """One line for the log: name, rows, files."""
        images = ", ".join(str(files.img.path) for files in self._files)
        return f"{self.name}: {len(self)} rows of {images}"

    def stamp(self) -> str:
        """Changes with the files and with the order of rows."""
        files = [file_stamp(file.path) for files in self._files for file in files.all()]
        order = hashlib.sha256(self._sources.tobytes() + self._rows.tobytes()).hexdigest()
        return "; ".join([*files, f"order {order}"])

    def _locate(self, row_id: int) -> tuple[_Files, int]:
        if not 0 <= row_id < len(self):
            raise DataError(
                f"{self.name}: row {row_id} does not exist, the data set has {len(self)} rows"
            )
        return self._files[self._sources[row_id]], int(self._rows[row_id])


def open_dataset(
    yaml_path: str | Path, spec: MeshSpec | None = None, *, root: str | Path | None = None
) -> RowDataset:
    """Open a data set; every file and index is checked before the first row is read.

    Args:
        yaml_path: METRO's YAML (keys img, label, hw, linelist, composite; others are ignored), the
            YAML of a mixture, or a Parquet data set (`NAME.parquet`); a path or a URL.
        spec: what the rows should describe; body rows for a hand spec are refused here and not row
            by row.
        root: folder in which a relative `yaml_path` is looked up when it does not exist as given.

    Raises:
        DataError: a missing file, key or index, or a linelist that names rows that do not exist.
    """
    path = _find_dataset(yaml_path, root)
    if is_parquet(path):
        return _checked(ParquetDataset(path), spec)
    config = load_yaml(path)
    if MIXTURE in config:
        return open_mixture(path, config, lambda source: open_dataset(source, spec))
    dataset = (
        _open_composite(path, config) if config.get("composite") else _open_plain(path, config)
    )
    return _checked(dataset, spec)


def _find_dataset(name: str | Path, root: str | Path | None) -> Path:
    """A data set as it is named, else in the folder (or at the URL) `root`."""
    path = as_path(name)
    tried = [path]
    if root is not None and not is_url(name) and not Path(name).is_absolute():
        tried.append(as_path(root) / str(name))
    for candidate in tried:
        if exists(candidate / MANIFEST if is_parquet(candidate) else candidate):
            return candidate
        if is_parquet(candidate) and exists(candidate):
            return candidate
    also = f" (also looked in {as_path(root)})" if len(tried) > 1 and root is not None else ""
    unfinished = f" or is unfinished: it has no {MANIFEST}" if is_parquet(path) else ""
    raise DataError(f"data set {name} does not exist{unfinished}{also}")


def _checked(dataset: RowDataset, spec: MeshSpec | None) -> RowDataset:
    """Refuse body rows for a hand and the other way round, by the first row that can be read."""
    if spec is None:
        return dataset
    for row_id in range(min(len(dataset), _LOOKED_AT)):
        try:
            joints = np.shape(dataset.row(row_id).label.get("2d_joints", ()))
        except (DataError, ValueError):
            continue
        if len(joints) >= 2 and joints[-2] != len(spec.label_joints):
            raise DataError(
                f"{dataset.name}: its rows have {joints[-2]} joints, but {spec.kind} rows have "
                f"{len(spec.label_joints)}; is this the right data set for {spec.name}?"
            )
        break
    return dataset


def _open_plain(path: Path, config: Mapping[str, Any]) -> TsvDataset:
    def file(key: str, required: bool) -> TsvFile | None:
        name = file_name(path, config, key, required)
        return None if name is None else TsvFile(find_file(name, path, key))

    img, label, hw = file("img", True), file("label", True), file("hw", False)
    assert img is not None
    assert label is not None
    files = _Files(img, label, hw)
    linelist = file_name(path, config, "linelist", required=False)
    if linelist is None:
        counts = {file.path.name: len(file) for file in files.all()}
        if len(set(counts.values())) > 1:
            raise DataError(
                f"{path}: without a linelist all files must have equally many rows, got {counts}"
            )
        rows = np.arange(len(img))
    else:
        listed = read_linelist(find_file(linelist, path, "linelist"), num_columns=1)
        rows = _resolve(listed[:, 0], files, f"{linelist}, named in {path}")
    return TsvDataset(str(path), [files], np.zeros(len(rows), np.int64), rows)


def _open_composite(path: Path, config: Mapping[str, Any]) -> TsvDataset:
    names = {key: file_names(path, config, key) for key in ("img", "label", "hw")}
    if len({len(listed) for listed in names.values()}) > 1:
        counts = {key: len(listed) for key, listed in names.items()}
        raise DataError(f"{path}: img, label and hw must list equally many files, got {counts}")
    files = [
        _Files(*(TsvFile(find_file(name, path, key)) for key, name in zip(names, row, strict=True)))
        for row in zip(*names.values(), strict=True)
    ]
    linelist = file_name(path, config, "linelist", required=True)
    assert linelist is not None
    listed = read_linelist(find_file(linelist, path, "linelist"), num_columns=2)
    sources, rows = listed[:, 0].copy(), listed[:, 1].copy()
    wrong = np.flatnonzero((sources < 0) | (sources >= len(files)))
    if len(wrong):
        raise DataError(
            f"{linelist}, named in {path}: line {wrong[0] + 1} names source {sources[wrong[0]]}, "
            f"expected 0 to {len(files) - 1}"
        )
    for source, group in enumerate(files):
        mine = sources == source
        rows[mine] = _resolve(rows[mine], group, f"{linelist}, named in {path} (source {source})")
    return TsvDataset(str(path), files, sources, rows)


def _resolve(
    listed: Int[np.ndarray, " rows"], files: _Files, linelist: str
) -> Int[np.ndarray, " rows"]:
    """Turn negative row numbers into positive ones and refuse those out of range."""
    counts = [len(file) for file in files.all()]
    shortest = min(counts)
    if np.any(listed < 0) and len(set(counts)) > 1:
        raise DataError(
            f"{linelist}: negative row numbers need files of equally many rows, got {counts}"
        )
    wrong = np.flatnonzero((listed < -shortest) | (listed >= shortest))
    if len(wrong):
        raise DataError(
            f"{linelist}: names row {listed[wrong[0]]}, but the files have {shortest} rows "
            f"(-{shortest} to {shortest - 1} are possible)"
        )
    return np.where(listed < 0, listed + shortest, listed)
