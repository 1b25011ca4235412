"""Check a data set: read rows as training would, and say what is odd about them.

Rows are checked in parts, in one process or several; a part comes back as a `Tally`, and tallies
merge. Memory does not grow with the number of rows but for 16 bytes each (32 while they are
sorted at the end): hashes that tell rows that come twice.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt64

from metro_ray.data.check_label import count_joints
from metro_ray.data.check_repeats import add_repeats
from metro_ray.data.check_row import add_row, inspect_row, row_hashes
from metro_ray.data.check_rules import RULES, SEVERITIES, Severity
from metro_ray.data.check_tally import Example, Tally
from metro_ray.data.progress import show_progress
from metro_ray.data.rows import KeyedFiles, RowDataset
from metro_ray.errors import DataError, ResourceError

_LOG = logging.getLogger(__name__)
_PART_ROWS = 64
_PARTS_AHEAD = 4
"""Parts that wait for each process."""
_LOOKED_AT = 10
_HAND_JOINTS = 21


class Finding(NamedTuple):
    """One kind of thing that was found."""

    code: str
    severity: Severity
    what: str
    advice: str
    count: int
    examples: tuple[Example, ...]
    """The first rows; row number -1 where it concerns no single row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckReport:
    """Everything a check found out."""

    name: str
    description: str
    kind: Literal["body", "hand"]
    num_rows: int
    num_checked: int
    source_names: tuple[str, ...]
    tally: Tally
    findings: tuple[Finding, ...]
    """Errors first, then by how often."""

    def count(self, severity: Severity) -> int:
        """Kinds of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def check_dataset(
    dataset: RowDataset,
    *,
    kind: Literal["body", "hand"] | None = None,
    sample: int | None = None,
    workers: int = 1,
) -> CheckReport:
    """Check the rows of a data set.

    Args:
        dataset: what is checked; each process gets a pickled copy.
        kind: what the rows should describe; by the number of joints in the first rows when left
            out.
        sample: check this many rows, evenly spread; all when left out.
        workers: processes; 1 works in this one.

    Raises:
        StorageError: remote storage does not answer.
        ResourceError: a process was killed.
    """
    kind = kind or guess_kind(dataset)
    rows = spread_rows(len(dataset), sample)
    tally = Tally()
    hashes = np.zeros((2, len(rows)), np.uint64)
    steps = _all_parts(dataset, rows, kind, workers, tally, hashes)
    show_progress(steps, len(rows), what="rows")
    add_repeats(tally, dataset, rows, hashes)
    _add_file_counts(tally, dataset)
    _add_absent_kinds(tally, dataset.source_names)
    if not len(dataset):
        tally.add_found("no-rows", Example(-1, "", dataset.describe()))
    return CheckReport(
        name=dataset.name,
        description=dataset.describe(),
        kind=kind,
        num_rows=len(dataset),
        num_checked=len(rows),
        source_names=tuple(dataset.source_names),
        tally=tally,
        findings=_findings(tally),
    )


def unopened_report(name: str, reason: str) -> CheckReport:
    """The report of a data set that could not be opened at all."""
    tally = Tally()
    tally.add_found("cannot-open", Example(-1, "", reason))
    return CheckReport(
        name=name,
        description=f"{name}: cannot be opened",
        kind="body",
        num_rows=0,
        num_checked=0,
        source_names=(),
        tally=tally,
        findings=_findings(tally),
    )


def guess_kind(dataset: RowDataset) -> Literal["body", "hand"]:
    """`hand` where the first rows that can be read have 21 joints, else `body`."""
    for row_id in range(min(len(dataset), _LOOKED_AT)):
        try:
            joints = count_joints(dataset.row(row_id).label)
        except (DataError, ValueError, TypeError, LookupError, RecursionError):
            continue
        if joints is not None:
            return "hand" if joints == _HAND_JOINTS else "body"
    return "body"


def spread_rows(num_rows: int, sample: int | None) -> Int64[np.ndarray, " rows"] | range:
    """Row numbers: all, or `sample` of them from the first to the last."""
    if sample is None or sample >= num_rows:
        return range(num_rows)
    return np.linspace(0, num_rows - 1, sample).round().astype(np.int64)


class _Part(NamedTuple):
    begin: int
    hashes: UInt64[np.ndarray, "2 rows"]
    tally: Tally


def _all_parts(
    dataset: RowDataset,
    rows: Sequence[int] | np.ndarray,
    kind: str,
    workers: int,
    tally: Tally,
    hashes: UInt64[np.ndarray, "2 rows"],
) -> Iterator[int]:
    """Check all rows into `tally` and `hashes`; yields how many were done each time."""
    begins = range(0, len(rows), _PART_ROWS)
    jobs = ((begin, [int(row) for row in rows[begin : begin + _PART_ROWS]]) for begin in begins)
    if workers == 1:
        parts = (_check_part(dataset, kind, *job) for job in jobs)
    else:
        parts = _in_processes(dataset, kind, jobs, min(workers, max(1, len(begins))))
    for part in parts:
        count = part.hashes.shape[1]
        hashes[:, part.begin : part.begin + count] = part.hashes
        tally.merge(part.tally)
        yield count


def _check_part(dataset: RowDataset, kind: str, begin: int, row_ids: Sequence[int]) -> _Part:
    tally, hashes = Tally(), np.zeros((2, len(row_ids)), np.uint64)
    for place, row_id in enumerate(row_ids):
        facts = inspect_row(dataset, row_id, kind)
        add_row(tally, facts)
        hashes[:, place] = row_hashes(facts)
    return _Part(begin, hashes, tally)


_job: tuple[RowDataset, str] | None = None


def _start(dataset: RowDataset, kind: str) -> None:
    """Keep what all parts need; runs once in each process."""
    import cv2

    global _job
    cv2.setNumThreads(1)
    _job = (dataset, kind)


def _check_part_there(begin: int, row_ids: Sequence[int]) -> _Part:
    assert _job is not None
    return _check_part(*_job, begin, row_ids)


def _in_processes(
    dataset: RowDataset, kind: str, jobs: Iterator[tuple[int, list[int]]], workers: int
) -> Iterator[_Part]:
    """Check parts in several processes, a few parts ahead of what was taken."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(dataset, kind)
    ) as pool:
        waiting: deque[Future[_Part]] = deque()
        try:
            for job in islice(jobs, workers * _PARTS_AHEAD):
                waiting.append(pool.submit(_check_part_there, *job))
            while waiting:
                part = waiting.popleft().result()
                for job in islice(jobs, 1):
                    waiting.append(pool.submit(_check_part_there, *job))
                yield part
        except BrokenProcessPool as error:
            raise ResourceError(
                "a process of the check was killed, most likely for want of memory; run it again "
                "with fewer --workers"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _add_file_counts(tally: Tally, dataset: RowDataset) -> None:
    groups = dataset.file_rows() if isinstance(dataset, KeyedFiles) else []
    for counts in groups:
        if len(set(counts.values())) > 1:
            shown = ", ".join(f"{name}: {rows}" for name, rows in counts.items())
            tally.add_found("row-counts", Example(-1, "", shown))


def _add_absent_kinds(tally: Tally, names: Sequence[str]) -> None:
    for number, source in sorted(tally.sources.items()):
        labels = {
            "mesh labels": source.mesh,
            "3D joints": source.joints_3d,
            "2D joints": source.keypoints_2d,
        }
        absent = [name for name, count in labels.items() if not count]
        if absent and len(absent) < len(labels) and source.rows:
            shown = f"{names[number]}: no row has {' or '.join(absent)}"
            tally.add_found("kind-absent", Example(-1, "", shown))


def _findings(tally: Tally) -> tuple[Finding, ...]:
    found = [
        Finding(code, *RULES[code], count=known.count, examples=tuple(known.examples))
        for code, known in tally.found.items()
    ]
    return tuple(sorted(found, key=lambda f: (SEVERITIES.index(f.severity), -f.count, f.code)))
