"""Predictions of a data set on their way to a file: finished rows are kept, a file is whole or not.

Rows are predicted in any order and by any number of processes. What is finished lies in a work
folder beside the output, one small file for some rows each, which appears by renaming. The folder's
name is a digest of all that the predictions depend on, so a job that is started again goes on, and
a job with another checkpoint, other data or other settings begins anew. The output appears, by
renaming too, once every row is there; then the work folder goes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metro_ray.data.rows import RowDataset
from metro_ray.errors import DataError
from metro_ray.evaluation.freihand_files import write_prediction_parts
from metro_ray.training.files import fsync_folder, write_json
from metro_ray.version import __version__

_LOG = logging.getLogger(__name__)
_REQUEST = "request.json"
_DIGITS = 16
_ARRAYS_EPOCH = (1980, 1, 1, 0, 0, 0)


class PredictedRows(NamedTuple):
    """Some rows of a data set, in ascending order, metres."""

    rows: Int[np.ndarray, " R"]
    keys: Sequence[str]
    joints: Float[np.ndarray, "R J 3"]
    vertices: Float[np.ndarray, "R V 3"]


def request_of(weights: Path, dataset: RowDataset, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that predictions depend on, as plain values.

    Weights are told by their content, the data set by the names, sizes and times of its files.
    """
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "metro_ray": __version__,
        "weights": digest,
        "data": dataset.name,
        "rows": len(dataset),
        "files": dataset.stamp(),
        **settings,
    }


class PredictionWork:
    """The work folder of one request, below the folder of its output.

    Args:
        output_dir: where the prediction file will be.
        request: see `request_of`.

    Raises:
        DataError: the data set has no rows.
    """

    def __init__(self, output_dir: Path, request: Mapping[str, Any]) -> None:
        text = json.dumps(request, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
        self.num_rows = int(request["rows"])
        self.weights = str(request["weights"])
        """Digest of the network's weights."""
        if self.num_rows == 0:
            raise DataError(f"{request['data']} has no rows to predict")
        self.folder = output_dir / f".prediction-{digest}"
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / _REQUEST, request)
        self._where: dict[int, Path] = {}
        for path in sorted(self.folder.glob("rows-*.npz")):
            self._find_rows(path)

    def missing(self) -> Int[np.ndarray, " M"]:
        """Rows that are not predicted yet, ascending."""
        return np.array([row for row in range(self.num_rows) if row not in self._where], np.int64)

    def add(self, predicted: PredictedRows) -> None:
        """Keep some rows; the file appears when it is whole."""
        rows = predicted.rows
        if len(rows) == 0:
            return
        path = self.folder / f"rows-{rows[0]:09d}-{rows[-1]:09d}.npz"
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            np.savez(
                file,
                rows=rows,
                keys=np.array(predicted.keys, dtype=np.str_),
                joints=predicted.joints,
                vertices=predicted.vertices,
            )
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        self._where |= dict.fromkeys(rows.tolist(), path)

    def write_hands(self, path: Path) -> Path:
        """Write the leaderboard's zip: all rows in the order of the data set.

        One part is in memory at a time.

        Raises:
            DataError: rows are missing, or numbers are not finite.
        """
        self._require_whole()
        joints, vertices = self._in_order("joints"), self._in_order("vertices")
        return write_prediction_parts(path, (j for (j,) in joints), (v for (v,) in vertices))

    def write_arrays(self, path: Path) -> Path:
        """Write an .npz with `joints`, `vertices` and `keys`: all rows in the data set's order.

        One part is in memory at a time.

        Raises:
            DataError: rows are missing.
        """
        self._require_whole()
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name in ("joints", "vertices", "keys"):
                    self._write_member(archive, name)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        fsync_folder(path.parent)
        return path

    def runs(self) -> Iterator[PredictedRows]:
        """All rows in the order of the data set, some at a time.

        Raises:
            DataError: rows are missing.
        """
        self._require_whole()
        first = 0
        for keys, joints, vertices in self._in_order("keys", "joints", "vertices"):
            rows = np.arange(first, first + len(keys))
            yield PredictedRows(rows, keys.tolist(), joints, vertices)
            first += len(keys)

    def remove(self) -> None:
        """Remove the work folder, when the output is there."""
        shutil.rmtree(self.folder)

    def _find_rows(self, path: Path) -> None:
        try:
            with np.load(path) as part:
                rows = part["rows"].tolist()
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            _LOG.warning("%s is damaged (%s); its rows are predicted again", path, error)
            path.unlink()
            return
        self._where |= dict.fromkeys(rows, path)

    def _require_whole(self) -> None:
        missing = self.missing()
        if len(missing):
            raise DataError(
                f"{len(missing)} of {self.num_rows} rows are not predicted, the first is row "
                f"{missing[0]}; start the same job again to go on with {self.folder}"
            )

    def _in_order(self, *names: str) -> Iterator[list[np.ndarray]]:
        """Columns of all rows, in runs of rows that lie in one file."""
        row = 0
        while row < self.num_rows:
            path = self._where[row]
            with np.load(path) as part:
                rows, columns = part["rows"], [part[name] for name in names]
            first = last = int(np.flatnonzero(rows == row)[0])
            while last < len(rows) and rows[last] == row and self._where[row] == path:
                last, row = last + 1, row + 1
                if row >= self.num_rows:
                    break
            yield [column[first:last] for column in columns]

    def _write_member(self, archive: zipfile.ZipFile, name: str) -> None:
        runs: Callable[[], Iterator[np.ndarray]] = lambda: (run[0] for run in self._in_order(name))  # noqa: E731
        dtype = np.result_type(*{run.dtype for run in runs()})
        member = zipfile.ZipInfo(f"{name}.npy", _ARRAYS_EPOCH)
        member.external_attr = 0o644 << 16
        with archive.open(member, "w", force_zip64=True) as stream:
            shape = (self.num_rows, *next(runs()).shape[1:])
            header = {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_1_0(stream, header)
            for run in runs():
                stream.write(np.ascontiguousarray(run, dtype).tobytes())
