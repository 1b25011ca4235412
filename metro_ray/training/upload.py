"""A run's folder in remote storage: checkpoints as they are written, the rest at the end.

    URL/checkpoints/checkpoint-3-120/...   as on disk
    URL/checkpoints/pointers.json          {"last": "checkpoint-3-120", "best": "checkpoint-2-80"}
    URL/result.json, metrics.csv, ...      when the run is over

Stores know no links and no renaming, so `pointers.json` takes their place: it is written when all
files of a checkpoint are there, and old checkpoints go after that.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from metro_ray.data.storage import as_path, exists, is_url, read_bytes, with_retries
from metro_ray.errors import CheckpointError
from metro_ray.training.files import replace_link

POINTERS = "pointers.json"
_LINKS = ("last", "best")
_FOLDER = "checkpoints"
_NOT_COPIED = (_FOLDER, ".ray")


class RunUpload:
    """Copies a run to a URL (or another folder).

    Args:
        url: `run.upload_to`.

    Raises:
        DataError: The URL's protocol is not known.
    """

    def __init__(self, url: str) -> None:
        self._target = as_path(url)

    def holds_run(self) -> bool:
        """Whether a run's checkpoints are there."""
        return "last" in _read_pointers(self._target / _FOLDER)

    def forget(self) -> None:
        """Point to no checkpoint any more: those of a run that another one replaces.

        They go with the first checkpoint of the new run.

        Raises:
            StorageError: The store does not answer.
        """
        target = self._target / _FOLDER
        before = _read_pointers(target)
        if "last" in before:
            _write_pointers(target, {"folders": before.get("folders", [])})

    def checkpoints(self, root: Path) -> None:
        """Copy checkpoints that are not there yet, point to them, remove those that are gone here.

        Args:
            root: The run's checkpoint folder.

        Raises:
            StorageError: The store does not answer.
            DataError: It refuses.
        """
        target = self._target / _FOLDER
        before = _read_pointers(target)
        links = {link: (root / link).resolve().name for link in _LINKS if (root / link).is_dir()}
        theirs = set(before.get("folders", []))
        # Folders without a `last` are those of a forgotten run: of its own, even where the names
        # are ours.
        there = theirs if "last" in before else set()
        here = {path.name for path in root.iterdir() if path.is_dir() and not path.is_symlink()}
        wanted = {name for name in here if not name.startswith(".")}
        for name in sorted(wanted - there):
            _copy_folder(root / name, target / name)
        _write_pointers(target, {**links, "folders": sorted(wanted)})
        for name in sorted(theirs - wanted):
            _remove_folder(target / name)

    def run(self, folder: Path) -> None:
        """Copy everything of the run's folder but the checkpoints.

        Raises:
            StorageError: The store does not answer.
            DataError: It refuses.
        """
        for path in sorted(folder.iterdir()):
            if path.name in _NOT_COPIED or path.name.startswith("."):
                continue
            if path.is_dir():
                _copy_folder(path, self._target / path.name)
            else:
                _copy_file(path, self._target / path.name)

    def fetch_last(self, root: Path) -> Path | None:
        """Bring the last checkpoint (and the best) to this machine; None where there is none.

        Args:
            root: The run's checkpoint folder, which has no checkpoint yet.

        Raises:
            CheckpointError: The pointers name a checkpoint that is not there.
            StorageError: The store does not answer.
        """
        source = self._target / _FOLDER
        pointers = _read_pointers(source)
        root.mkdir(parents=True, exist_ok=True)
        for name in dict.fromkeys(pointers[link] for link in _LINKS if link in pointers):
            partial = root / f".partial-{name}"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            folder = source / name
            files = with_retries(f"listing {folder}", lambda folder=folder: _files(folder))
            if not files:
                raise CheckpointError(f"{source / POINTERS} names {name}, which is not there")
            for file in files:
                content = read_bytes(file)
                (partial / file.name).write_bytes(content)
            shutil.rmtree(root / name, ignore_errors=True)  # of a fetch that was interrupted
            partial.rename(root / name)
        for link in _LINKS:
            if link in pointers:
                replace_link(root / link, pointers[link])
        return (root / "last").resolve() if "last" in pointers else None


def _read_pointers(folder: Path) -> dict:
    path = folder / POINTERS
    if not exists(path):
        return {}
    try:
        return dict(json.loads(read_bytes(path)))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); remove it") from error


def _write_pointers(folder: Path, pointers: dict) -> None:
    text, path = json.dumps(pointers, indent=1) + "\n", folder / POINTERS
    with_retries(f"writing {path}", lambda: _write(path, text.encode()))


def _files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.name)


def _copy_folder(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file():
            _copy_file(path, target / path.relative_to(source).as_posix())


def _copy_file(source: Path, target: Path) -> None:
    with_retries(f"writing {target}", lambda: _copy(source, target))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _remove_folder(folder: Path) -> None:
    if not is_url(folder):
        shutil.rmtree(folder)
        return
    store = folder.fs  # type: ignore[attr-defined] - a UPath
    name = folder.path  # type: ignore[attr-defined]
    with_retries(f"removing {folder}", lambda: store.rm(name, recursive=True))
