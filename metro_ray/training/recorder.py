"""What a run leaves behind as numbers over time: `metrics.csv` and TensorBoard event files."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from metro_ray.training.files import write_bytes

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from metro_ray.training.trackers import Trackers

_LOG = logging.getLogger(__name__)
_FIXED = ("kind", "epoch", "step", "seconds")

CsvRow = dict[str, float | int | str]


class Recorder:
    """Rows of metrics, on disk as soon as they are recorded.

    A run that continues from a checkpoint keeps the rows up to its step and drops those behind it,
    which the steps to come will write again.

    Args:
        folder: Of the run.
        enabled: False on ranks that write nothing.
        from_step: Step of the checkpoint that the run continues from; 0 starts anew.
        trackers: Get the same numbers.
    """

    def __init__(
        self,
        folder: Path,
        *,
        enabled: bool = True,
        from_step: int = 0,
        trackers: Trackers | None = None,
    ) -> None:
        self._path = folder / "metrics.csv"
        self._enabled, self._trackers = enabled, trackers
        self._start = time.monotonic()
        self._columns: list[str] = list(_FIXED)
        self._writer: SummaryWriter | None = None
        self.rows: list[CsvRow] = []
        """Everything recorded so far, earlier parts of a continued run included."""
        if enabled:
            folder.mkdir(parents=True, exist_ok=True)
            self.rows = [row for row in read_rows(self._path) if int(row["step"]) <= from_step]
            self._start -= float(self.rows[-1]["seconds"]) if self.rows else 0.0
            self._columns += _new_names(self.rows, self._columns)
            self._rewrite()
            self._writer = _open_tensorboard(folder / "tensorboard", from_step)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    @property
    def seconds(self) -> float:
        """Since the start of the run; the time before a continued run's checkpoint counts."""
        return time.monotonic() - self._start

    def record(
        self,
        kind: Literal["train", "epoch", "val"],
        *,
        epoch: int,
        step: int,
        values: Mapping[str, float],
    ) -> None:
        """Write one row; numbers that do not exist (NaN) stay empty.

        Args:
            kind: "train" for the steps since the row before, "epoch" for those of a whole epoch,
                "val" for a validation.
            epoch: From 0; for "val" the number of complete epochs.
            step: Steps so far.
            values: Numbers by name.
        """
        if not self._enabled:
            return
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        row: CsvRow = {
            "kind": kind,
            "epoch": epoch,
            "step": step,
            "seconds": round(self.seconds, 3),
        }
        row.update(finite)
        self.rows.append(row)
        new = _new_names([row], self._columns)
        if new:
            self._columns += new
            self._rewrite()
        else:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)
        if self._writer is not None:
            for name, value in finite.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
        if self._trackers is not None:
            self._trackers.log({"epoch": epoch, **finite}, step)

    def _rewrite(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_bytes(self._path, text.getvalue().encode())


def read_rows(path: Path) -> list[CsvRow]:
    """Rows of a `metrics.csv`; none where there is no file. Empty cells are left out."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [_parse(row) for row in csv.DictReader(file)]


def _parse(row: Mapping[str, str]) -> CsvRow:
    numbers = {name: float(text) for name, text in row.items() if name != "kind" and text}
    return {
        "kind": row["kind"],
        **numbers,
        "epoch": int(numbers["epoch"]),
        "step": int(numbers["step"]),
    }


def _new_names(rows: list[CsvRow], known: list[str]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row if name not in known))


def _open_tensorboard(folder: Path, from_step: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _LOG.warning(
            "no TensorBoard files: tensorboard is not installed; pip install 'metro-ray[plots]'"
        )
        return None
    return SummaryWriter(str(folder), purge_step=from_step + 1 if from_step else None)
