"""Write data sets in METRO's TSV layout, and join shards of one.

Rows are streamed to `<name>.*.partial` files and renamed when all is written, the YAML last: a data
set whose YAML exists is whole, and a stopped run leaves nothing that looks like one.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from metro_ray.data.tsv import TsvFile, lineidx_path
from metro_ray.errors import DataError

_PARTS = ("img", "label", "hw", "linelist")


class _StreamedTsv:
    """One TSV and its line index (byte offsets), both under `.partial` names until `finish`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._rows: BinaryIO = _partial(path).open("wb")
        self._index: BinaryIO = _partial(lineidx_path(path)).open("wb")

    def add(self, *columns: bytes) -> None:
        line = b"\t".join(columns) + b"\n"
        self._rows.write(line)
        self._index.write(b"%d\n" % self._offset)
        self._offset += len(line)

    def append(self, shard: TsvFile) -> None:
        """Append all rows of another file and its shifted index."""
        with shard.path.open("rb") as source:
            shutil.copyfileobj(source, self._rows, 1 << 20)
        index = lineidx_path(shard.path).read_bytes().split()
        self._index.write(b"".join(b"%d\n" % (self._offset + int(offset)) for offset in index))
        self._offset += shard.path.stat().st_size

    def close(self) -> None:
        self._rows.close()
        self._index.close()

    def finish(self) -> None:
        self.close()
        _partial(lineidx_path(self.path)).replace(lineidx_path(self.path))
        _partial(self.path).replace(self.path)

    def discard(self) -> None:
        self.close()
        for path in (self.path, lineidx_path(self.path)):
            _partial(path).unlink(missing_ok=True)


class TsvDatasetWriter:
    """Write `<name>.{img,label,hw,linelist}.tsv`, their `.lineidx` and `<name>.yaml` into a folder.

    Example:
        with TsvDatasetWriter(folder, "train") as writer:
            writer.add(key, jpeg_bytes, label, height, width)

    Leaving the block normally publishes the data set; an exception removes what was written.
    """

    def __init__(self, folder: str | Path, name: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._name = name
        self._files = {part: _StreamedTsv(self._folder / f"{name}.{part}.tsv") for part in _PARTS}
        self._num_rows = 0

    @property
    def yaml_path(self) -> Path:
        """Where the data set's YAML is (written last)."""
        return self._folder / f"{self._name}.yaml"

    @property
    def num_rows(self) -> int:
        """Rows added so far."""
        return self._num_rows

    def add(
        self, key: str, image_bytes: bytes, label: Mapping[str, Any], height: int, width: int
    ) -> None:
        """Append one row.

        Args:
            key: name of the row, without tab or newline.
            image_bytes: encoded image (JPEG or PNG).
            label: METRO's label record; numpy arrays and numbers are written as JSON numbers.
            height: height of the image, pixels.
            width: width of the image, pixels.

        Raises:
            DataError: the key cannot be written, or the label holds something that is not JSON.
        """
        if "\t" in key or "\n" in key or "\r" in key or not key:
            raise DataError(
                f"row {self._num_rows}: key {key!r} must be text without tab or newline"
            )
        try:
            record = json.dumps(
                [dict(label)], default=_plain, separators=(",", ":"), allow_nan=False
            )
        except (TypeError, ValueError) as error:
            raise DataError(
                f"row {self._num_rows} ({key}): the label is not JSON: {error}"
            ) from error
        name = key.encode("utf-8")
        size = json.dumps([{"height": int(height), "width": int(width)}])
        self._files["img"].add(name, base64.b64encode(image_bytes))
        self._files["label"].add(name, record.encode("ascii"))
        self._files["hw"].add(name, size.encode("ascii"))
        self._files["linelist"].add(b"%d" % self._num_rows)
        self._num_rows += 1

    def finish(self) -> Path:
        """Publish the data set and return the path of its YAML."""
        for file in self._files.values():
            file.finish()
        _write_yaml(self.yaml_path, self._name)
        return self.yaml_path

    def discard(self) -> None:
        """Remove what was written so far."""
        for file in self._files.values():
            file.discard()

    def __enter__(self) -> TsvDatasetWriter:
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


def concatenate(folder: str | Path, name: str, shard_names: Sequence[str]) -> Path:
    """Join data sets written by `TsvDatasetWriter` in one folder, in the order given, and remove
    the shards.

    Returns:
        The YAML of the joined data set.

    Raises:
        DataError: a shard is missing or incomplete.
    """
    folder = Path(folder)
    for shard in shard_names:
        if not (folder / f"{shard}.yaml").is_file():
            raise DataError(
                f"{folder}: shard {shard} is not finished ({shard}.yaml is missing); write it again"
            )
    joined = {part: _StreamedTsv(folder / f"{name}.{part}.tsv") for part in _PARTS}
    num_rows = 0
    try:
        for shard in shard_names:
            files = {part: TsvFile(folder / f"{shard}.{part}.tsv") for part in _PARTS}
            for part in ("img", "label", "hw"):
                joined[part].append(files[part])
            for row in range(len(files["img"])):
                joined["linelist"].add(b"%d" % (num_rows + row))
            num_rows += len(files["img"])
    except BaseException:
        for file in joined.values():
            file.discard()
        raise
    for file in joined.values():
        file.finish()
    _write_yaml(folder / f"{name}.yaml", name)
    for shard in shard_names:
        remove_dataset(folder, shard)
    return folder / f"{name}.yaml"


def remove_dataset(folder: str | Path, name: str) -> None:
    """Remove every file that `TsvDatasetWriter` wrote under a name; the YAML goes first."""
    folder = Path(folder)
    (folder / f"{name}.yaml").unlink(missing_ok=True)
    for part in _PARTS:
        path = folder / f"{name}.{part}.tsv"
        path.unlink(missing_ok=True)
        lineidx_path(path).unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _write_yaml(path: Path, name: str) -> None:
    partial = _partial(path)
    partial.write_text("".join(f"{part}: {name}.{part}.tsv\n" for part in _PARTS), encoding="utf-8")
    partial.replace(path)


def _plain(value: object) -> Any:
    """Numpy values as what json can write."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written")
