"""Where served weights come from: any name of a checkpoint becomes a local folder.

runs/demo/checkpoints/best        a checkpoint folder
runs/demo                         a run: its best checkpoint, else its last
runs/sweep                        a sweep: the best checkpoint of its trials
s3://bucket/run                   the same in remote storage, fetched into the cache
.../checkpoints/pointers.json     what a run's upload calls its best (docs/training.md)
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from metro_ray.bodies.cache import cache_folder
from metro_ray.data.storage import as_path, exists, file_stamp, is_url, with_retries
from metro_ray.errors import CheckpointError, DataError
from metro_ray.sweeps.best import best_checkpoint
from metro_ray.sweeps.ledger import SWEEP_FILE
from metro_ray.training.checkpoint_meta import META, PREDICTOR_FILES, WEIGHTS, read_meta
from metro_ray.training.upload import POINTERS

_CHECKPOINTS = "checkpoints"
_LINKS = ("best", "last")
_PIECE = 1 << 20


class Found(NamedTuple):
    """A checkpoint that a name leads to at present."""

    folder: Path
    """Local, or a `UPath`."""
    stamp: str
    """Changes when the name leads elsewhere or the weights are written anew."""


def find_checkpoint(name: str) -> Found:
    """Follow a name to the checkpoint folder that it means now.

    Raises:
        CheckpointError: it leads to no checkpoint; says what was looked for.
        StorageError: remote storage does not answer.
    """
    try:
        folder = _folder(as_path(name))
        return Found(folder, file_stamp(folder / WEIGHTS))
    except (DataError, FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"{name} leads to no checkpoint: {error}") from error


def fetch(found: Found) -> Path:
    """The checkpoint as a local folder; remote ones are copied into the cache, once.

    Raises:
        CheckpointError: files are missing.
        StorageError: remote storage does not answer.
    """
    if not is_url(found.folder):
        return found.folder
    mark = hashlib.sha256(f"{found.folder} {found.stamp}".encode()).hexdigest()[:16]
    local = cache_folder() / "served" / f"{found.folder.name}-{mark}"
    if local.is_dir():
        return local
    local.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=local.parent))
    try:
        for file in PREDICTOR_FILES:
            what = f"reading {found.folder / file}"
            with_retries(what, lambda file=file: _copy(found, file, partial))
        try:
            partial.rename(local)
        except OSError:
            if not local.is_dir():  # else another replica was faster
                raise
    except DataError as error:
        raise CheckpointError(f"{found.folder} is not a complete checkpoint: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return local


def version_of(folder: Path) -> str:
    """What tells one set of weights from another: hash of the file, and the training step."""
    digest = hashlib.sha256()
    with (folder / WEIGHTS).open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return f"{digest.hexdigest()[:10]}-{read_meta(folder, PREDICTOR_FILES).step}"


def _folder(path: Path) -> Path:
    if path.name == POINTERS:
        return _pointed(path)
    if exists(path / META):
        return path if is_url(path) else path.resolve()
    if not is_url(path) and exists(path / SWEEP_FILE):
        return best_checkpoint(path).checkpoint.resolve()
    for root in (path / _CHECKPOINTS, path):
        for link in _LINKS:
            if not is_url(path) and exists(root / link / META):
                return (root / link).resolve()
        if exists(root / POINTERS):
            return _pointed(root / POINTERS)
    raise CheckpointError(
        f"expected at {path} a folder with {', '.join(PREDICTOR_FILES)}, a run with "
        f"{_CHECKPOINTS}/best, a sweep with {SWEEP_FILE}, or {POINTERS}"
    )


def _pointed(pointers: Path) -> Path:
    content = with_retries(f"reading {pointers}", pointers.read_bytes)
    try:
        names = json.loads(content)
        name = next(names[link] for link in _LINKS if link in names)
    except (ValueError, TypeError, StopIteration) as error:
        raise CheckpointError(
            f'{pointers} names no checkpoint; expected {{"best": "checkpoint-2-80", ..}}'
        ) from error
    return pointers.parent / name


def _copy(found: Found, file: str, target: Path) -> None:
    with (found.folder / file).open("rb") as reader, (target / file).open("wb") as writer:
        shutil.copyfileobj(reader, writer, _PIECE)
