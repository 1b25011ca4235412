"""What a run finds and leaves in its folder beside what the training loop writes."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metro_ray.errors import ConfigError
from metro_ray.training.checkpoint_meta import META


def last_checkpoint(run_dir: Path) -> Path | None:
    """The folder of the last checkpoint, or None."""
    folder = (run_dir / "checkpoints" / "last").resolve()
    return folder if (folder / META).is_file() else None


def last_checkpoint_stamp(run_dir: Path) -> str | None:
    """Tells the last checkpoint of a folder from any that is written later; None without one."""
    folder = last_checkpoint(run_dir)
    return None if folder is None else f"{folder.name} {(folder / META).stat().st_mtime_ns}"


def require_writable(run_dir: Path) -> None:
    """Make the folder and write to it.

    Raises:
        ConfigError: That is not possible.
    """
    probe = run_dir / f".writable-{secrets.token_hex(4)}"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"run.output_dir {run_dir} cannot be written: {error}") from error


@contextmanager
def ray_records(run_dir: Path) -> Iterator[Path]:
    """A new folder for Ray Train's own records of this run, gone when the run is over."""
    folder = run_dir / ".ray" / secrets.token_hex(4)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()
