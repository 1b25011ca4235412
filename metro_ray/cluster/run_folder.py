"""What a run finds and leaves in its folder beside what the training loop writes."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from metro_ray.errors import ConfigError, StorageError
from metro_ray.training.checkpoint_meta import META

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig

_LOG = logging.getLogger(__name__)


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
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def restore_lost_folder(config: TrainConfig, records: Path) -> None:
    """Where the run's folder was lost with a machine, make it again from `run.upload_to`.

    Args:
        config: Of the run.
        records: Ray Train's records, which are in the folder as long as it is there.

    Raises:
        StorageError: There is no copy of the folder, or the store does not answer.
    """
    if records.is_dir():
        return
    run_dir, url = Path(config.run.output_dir), config.run.upload_to
    if url is None:
        raise StorageError(
            f"run.output_dir {run_dir} was lost with its checkpoints; put it on storage that "
            "outlives a machine, or name a place for copies of checkpoints with --run.upload_to"
        )
    records.mkdir(parents=True)
    from metro_ray.training.upload import RunUpload

    last = RunUpload(url).fetch_last(run_dir / "checkpoints")
    what = "nothing, so the run begins anew" if last is None else last.name
    _LOG.warning("%s was lost; from %s came %s", run_dir, url, what)
