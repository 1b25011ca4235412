"""Files of a data set, on this machine or behind any fsspec URL (`s3://`, `gs://`, `memory://`).

Local files are read with `pread`. A remote range is one request; requests that fail for a reason
that may pass (a reset connection, a time-out, a busy server) are repeated with growing pauses.
Where a store lives and who asks is configured outside, as its fsspec driver documents (for S3:
`AWS_ENDPOINT_URL`, `AWS_PROFILE`, ...), so no address or secret is ever part of a configuration.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from metro_ray.errors import DataError, StorageError

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

MAX_ATTEMPTS = 6
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0

_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
}


def file_stamp(path: Path) -> str:
    """Name, size and time of change of a file, so far as its storage tells them.

    Raises:
        StorageError: remote storage does not answer.
    """
    about = with_retries(f"looking at {path}", path.stat)
    changed = getattr(about, "st_mtime_ns", None) or getattr(about, "st_mtime", None)
    return f"{path} {about.st_size} {changed}"


def is_url(name: str | os.PathLike[str]) -> bool:
    """Whether a name is a URL of remote (or in-memory) storage and not a local path."""
    protocol, separator, _ = str(name).partition("://")
    return bool(separator) and protocol not in ("file", "local")


def as_path(name: str | os.PathLike[str]) -> Path:
    """A local `Path`, or a `UPath` (which has the methods of `Path`) for a URL.

    Raises:
        DataError: the URL's protocol is not known, or its driver is not installed.
    """
    text = os.fspath(name) if not is_url(name) else str(name)
    if not is_url(text):
        return Path(text.removeprefix("file://").removeprefix("local://")).absolute()
    from upath import UPath

    protocol = text.partition("://")[0]
    try:
        path = UPath(text)
        _ = path.fs  # the driver is imported here
    except ImportError as error:
        driver = _DRIVERS.get(protocol, f"an fsspec driver for {protocol}")
        raise DataError(f"{text}: reading {protocol}:// needs {driver}: {error}") from error
    except ValueError as error:
        raise DataError(f"{text}: no file system is known as {protocol}://") from error
    return path  # type: ignore[return-value] - a UPath is used as a Path


def with_retries(what: str, request: Callable[[], _T]) -> _T:
    """Run a storage request, again after a pause where it failed for a reason that may pass.

    Raises:
        DataError: the file is not there or may not be read.
        StorageError: the store still failed at the last of `MAX_ATTEMPTS` attempts.
    """
    import tenacity

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(MAX_ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
        retry=tenacity.retry_if_exception(_may_pass),
        before_sleep=lambda state: _LOG.warning(
            "%s failed (%s), attempt %d of %d follows",
            what,
            state.outcome.exception() if state.outcome else "",
            state.attempt_number + 1,
            MAX_ATTEMPTS,
        ),
        reraise=True,
    )
    try:
        return retrying(request)
    except FileNotFoundError as error:
        raise DataError(f"{what}: it does not exist") from error
    except PermissionError as error:
        raise DataError(f"{what}: access is refused ({error}); check the credentials") from error
    except Exception as error:
        if not _may_pass(error):
            raise
        raise StorageError(
            f"{what} failed {MAX_ATTEMPTS} times, the last time with {type(error).__name__}: "
            f"{error}. Check the network and the store, then start again: the run continues where "
            "its last checkpoint was written"
        ) from error


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, _FINAL):
        return False
    return isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith(
        ("aiohttp", "botocore")
    )


def exists(path: Path) -> bool:
    """Whether a file is there; a store that does not answer is not taken for a missing file."""
    if not is_url(path):
        return path.is_file()
    return with_retries(f"looking for {path}", path.is_file)


def read_bytes(path: Path) -> bytes:
    """A whole file."""
    if not is_url(path):
        return path.read_bytes()
    return with_retries(f"reading {path}", path.read_bytes)


class RangeFile:
    """Ranged reads of one file; safe to use from many threads, pickles as its path.

    Raises:
        DataError: the file does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_path(path)
        self.remote = is_url(self.path)
        self._descriptor: int | None = None
        if not exists(self.path):
            raise DataError(f"{self.path} does not exist")
        if self.remote:
            size = with_retries(f"looking at {self.path}", lambda: self.path.stat().st_size)
        else:
            self._descriptor = os.open(self.path, os.O_RDONLY)
            size = os.fstat(self._descriptor).st_size
        self.size = int(size)

    def __reduce__(self) -> tuple[type[RangeFile], tuple[str]]:
        return RangeFile, (str(self.path),)

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    def read(self, start: int, end: int) -> bytes:
        """Bytes [start, end), fewer where the file ends before."""
        if self._descriptor is not None:
            return os.pread(self._descriptor, end - start, start)
        end = min(end, self.size)
        if start >= end:
            return b""
        return with_retries(
            f"reading bytes {start} to {end} of {self.path}",
            lambda: self._fs.cat_file(self._name, start=start, end=end),
        )

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several ranges; of a remote file with all requests under way at once."""
        if self._descriptor is not None:
            return [os.pread(self._descriptor, end - start, start) for start, end in ranges]
        names = [self._name] * len(ranges)
        starts, ends = zip(*ranges, strict=True) if ranges else ((), ())
        return with_retries(
            f"reading {len(ranges)} ranges of {self.path}",
            lambda: self._fs.cat_ranges(names, list(starts), list(ends), on_error="raise"),
        )

    @property
    def _fs(self):
        return self.path.fs  # type: ignore[attr-defined]

    @property
    def _name(self) -> str:
        return self.path.path  # type: ignore[attr-defined]
