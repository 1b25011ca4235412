"""Convert data sets between TSV and Parquet, or from a raw data set, in parallel.

Rows are converted in parts. A part appears under its name when it is whole, and
`NAME.convert.json` notes what is done; so a conversion that was stopped goes on where it was, and
memory holds a few rows whatever the size of the data set. The data set itself (its YAML or
`dataset.json`) is written last.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from metro_ray.data.bad_rows import BadRow
from metro_ray.data.bake import BakeSettings, bake_row
from metro_ray.data.convert_work import ConvertWork
from metro_ray.data.parquet import Manifest, is_parquet
from metro_ray.data.parquet_writer import GROUP_ROWS, ParquetPartWriter, part_name, write_manifest
from metro_ray.data.progress import show_progress
from metro_ray.data.rows import Row, RowDataset, exact_row
from metro_ray.data.storage import as_path
from metro_ray.data.transform import decode_image
from metro_ray.data.writer import TsvDatasetWriter, concatenate, remove_dataset
from metro_ray.errors import DataError, ResourceError

_LOG = logging.getLogger(__name__)
_MAX_PART_ROWS = 4096
_PARTS = 32
"""Small data sets are cut into about this many parts, so that several processes have work."""


class ConvertSettings(NamedTuple):
    """What a conversion does to each row."""

    bake: BakeSettings | None = None
    """Cut pictures to what training can reach; None keeps their bytes."""
    rows_per_part: int | None = None
    """Rows of a part (a Parquet file); None chooses by the number of rows."""
    max_bad_rows: int = 100
    """Rows that may be left out because they cannot be read."""


class ConvertReport(NamedTuple):
    """What a conversion made."""

    path: Path
    num_rows: int
    bad_rows: tuple[BadRow, ...]
    """Rows that were left out, with the reason."""


def convert(
    dataset: RowDataset,
    target: str | Path,
    settings: ConvertSettings = ConvertSettings(),  # noqa: B008 - immutable
    *,
    workers: int = 1,
) -> ConvertReport:
    """Write a data set in another format, or complete a conversion that was stopped.

    Args:
        dataset: what is converted; each process gets a pickled copy.
        target: `NAME.parquet` (a path or a URL) or `NAME.yaml` (a local path, for TSV).
        settings: what happens to each row.
        workers: processes.

    Raises:
        DataError: the target is there already, belongs to another conversion, or too many rows
            cannot be read.
        ResourceError: a process was killed.
    """
    path, total = as_path(target), len(dataset)
    if total == 0:
        raise DataError(f"{dataset.name} has no rows to convert")
    rows_per_part = settings.rows_per_part or _good_part(total)
    work = ConvertWork.claim(dataset, path, rows_per_part, settings.bake)
    parts = _cut(total, rows_per_part)
    missing = {index: rows for index, rows in parts.items() if index not in work.done}
    steps = _convert_all(dataset, path, settings, work, missing, workers)
    start = total - sum(len(rows) for rows in missing.values())
    show_progress(steps, total, done=start, what=f"rows of {path.name}")
    num_rows = _publish(path, work, dataset.source_names)
    work.path.unlink()
    return ConvertReport(path, num_rows, tuple(work.bad_rows(settings.max_bad_rows, path).rows()))


def _good_part(total: int) -> int:
    """Rows of a part: whole row groups, not too few parts for several processes."""
    groups = -(-total // (_PARTS * GROUP_ROWS))
    return min(_MAX_PART_ROWS, groups * GROUP_ROWS)


def _cut(total: int, rows_per_part: int) -> dict[int, range]:
    starts = range(0, total, rows_per_part)
    return {i: range(start, min(start + rows_per_part, total)) for i, start in enumerate(starts)}


def _convert_all(
    dataset: RowDataset,
    target: Path,
    settings: ConvertSettings,
    work: ConvertWork,
    parts: dict[int, range],
    workers: int,
) -> Iterator[int]:
    """Convert parts; yields how many rows were dealt with each time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        max(1, min(workers, len(parts))),
        mp_context=context,
        initializer=_start,
        initargs=(dataset, target, settings),
    ) as pool:
        futures = {pool.submit(_convert_part, index, rows): index for index, rows in parts.items()}
        try:
            for future in as_completed(futures):
                index = futures[future]
                num_rows, bad = future.result()
                work.finished(index, num_rows, bad)
                work.bad_rows(settings.max_bad_rows, target)
                yield len(parts[index])
        except BrokenProcessPool as error:
            raise ResourceError(
                "a conversion process was killed, most likely for want of memory; run it again "
                "with fewer --workers, it goes on from here"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Job(NamedTuple):
    dataset: RowDataset
    target: Path
    settings: ConvertSettings


_job: _Job | None = None


def _start(dataset: RowDataset, target: Path, settings: ConvertSettings) -> None:
    """Keep what all parts need; runs once in each process."""
    import cv2

    global _job
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch is imported, for body models of raw data
    _job = _Job(dataset, target, settings)


def _convert_part(index: int, rows: range) -> tuple[int, list[BadRow]]:
    """Write one part; returns its number of rows and the rows that were left out."""
    assert _job is not None
    dataset, target, settings = _job
    bad: list[BadRow] = []
    writer = _part_writer(target, index)
    try:
        for row_id in rows:
            try:
                _add(writer, _converted(dataset, row_id, settings))
            except DataError as error:
                bad.append(BadRow(row_id, dataset.key_or_number(row_id), str(error)))
        num_rows = writer.num_rows
        writer.finish()
    except BaseException:
        writer.discard()
        raise
    return num_rows, bad


def _converted(dataset: RowDataset, row_id: int, settings: ConvertSettings) -> Row:
    row = exact_row(dataset, row_id)
    return row if settings.bake is None else bake_row(row, settings.bake)


def _add(writer: ParquetPartWriter | TsvDatasetWriter, row: Row) -> None:
    """Write a row; one that is refused leaves nothing behind."""
    height, width = row.hw or decode_image(row.image_bytes).shape[:2]
    if isinstance(writer, ParquetPartWriter):
        more = {"source": row.source, "origin": row.where}
        writer.add(row.key, row.image_bytes, row.label, height, width, **more)
    else:
        writer.add(row.key, row.image_bytes, row.label, height, width)


def _part_writer(target: Path, index: int) -> ParquetPartWriter | TsvDatasetWriter:
    if is_parquet(target):
        return ParquetPartWriter(target / part_name(index))
    return TsvDatasetWriter(target.parent, _shard(target, index))


def _shard(target: Path, index: int) -> str:
    return f"{target.stem}.part-{index:05d}"


def _publish(target: Path, work: ConvertWork, sources: tuple[str, ...]) -> int:
    """Make the parts a data set; returns its number of rows."""
    counts = [(index, int(work.done[index]["rows"])) for index in sorted(work.done)]
    kept = [(index, rows) for index, rows in counts if rows]
    if not kept:
        raise DataError(f"{target}: none of the rows can be read; {work.path} lists why")
    if is_parquet(target):
        write_manifest(target, Manifest(tuple((part_name(i), n) for i, n in kept), sources))
    else:
        if not target.is_file():  # it is there when an earlier call was stopped while cleaning up
            shards = [_shard(target, index) for index, _ in kept]
            concatenate(target.parent, target.stem, shards)
        for index, _ in counts:
            remove_dataset(target.parent, _shard(target, index))
        if len(sources) > 1:
            _LOG.warning(
                "%s is one plain data set: its sources %s are no longer told apart",
                target,
                ", ".join(sources),
            )
    return sum(rows for _, rows in kept)
