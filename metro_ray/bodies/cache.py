"""A folder for arrays that take seconds to derive and never change for a given version."""

import logging
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """METRO_RAY_CACHE, or `~/.cache/metro_ray`."""
    return Path(os.environ.get("METRO_RAY_CACHE") or Path.home() / ".cache" / "metro_ray")


def cached_arrays(name: str, build: Callable[[], Arrays]) -> Arrays:
    """Arrays stored under a name, built and stored when they are not there.

    The file is written beside and renamed, so that no reader sees half of it. A damaged file is
    built anew; where nothing can be written the arrays are built in every process, and the log says
    so.

    Args:
        name: file name without suffix; holds every version that the arrays depend on.
        build: makes the arrays.
    """
    path = cache_folder() / f"{name}.npz"
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            _log.warning("%s is damaged (%s) and is built anew", path, error)
    _log.info("building %s; kept in %s for the next time", name, path.parent)
    arrays = build()
    try:
        _write(path, arrays)
    except OSError as error:
        _log.warning("cannot keep %s: %s; set METRO_RAY_CACHE to a writable folder", path, error)
    return arrays


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
        Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)
