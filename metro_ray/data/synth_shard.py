"""One shard of a synthetic data set: settings -> scenes -> posed meshes -> images and labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch

from metro_ray.bodies import load_body
from metro_ray.data.synth_label import make_label
from metro_ray.data.synth_render import SceneRenderer
from metro_ray.data.synth_scene import SETTINGS, VIEWS, Scene, Setting, View, sample_scene
from metro_ray.data.writer import TsvDatasetWriter
from metro_ray.errors import DataError

SHARD_ROWS = 50
_JPEG_QUALITY = 95
_FORMAT = 2
"""Goes up when the same seed starts to give other images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthSettings:
    """What decides the bytes of a synthetic data set; written beside it as NAME.synth.json."""

    kind: Literal["body", "hand"]
    num: int
    seed: int
    size: int = 256
    view: View = "wide"
    setting: Setting = "varied"
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
        if self.setting not in SETTINGS:
            raise DataError(f"setting must be one of {', '.join(SETTINGS)}, got {self.setting!r}")

    @property
    def mesh(self) -> str:
        """Name of the open body model."""
        return f"anny_{self.kind}"


class Shard(NamedTuple):
    """A run of images that is rendered in one go and published whole."""

    settings: SynthSettings
    folder: Path
    name: str
    indices: range


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread a process: the sums of a matrix product depend on how it is cut."""
    torch_threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv2_threads)


_RENDERERS: dict[tuple[str, int, str], SceneRenderer] = {}


def _renderer(settings: SynthSettings) -> SceneRenderer:
    """Made once a process; it takes seconds."""
    key = (settings.mesh, settings.size, settings.setting)
    if key not in _RENDERERS:
        _RENDERERS[key] = SceneRenderer(load_body(settings.mesh), settings.size, settings.setting)
    return _RENDERERS[key]


def render_shard(shard: Shard) -> int:
    """Render a shard and publish it as a data set of its own; returns the number of images."""
    settings, folder, name, indices = shard
    with _one_thread(), TsvDatasetWriter(folder, name) as writer, torch.no_grad():
        renderer = _renderer(settings)
        # A last, shorter shard is posed in full: the same batch, the same rounding.
        whole = range(indices.start, indices.start + SHARD_ROWS)
        scenes = [_scene(settings, renderer, index) for index in whole]
        posed = renderer.body(
            torch.from_numpy(np.stack([s.pose for s in scenes])).float(),
            torch.from_numpy(np.stack([s.betas for s in scenes])).float(),
        )
        for row, index in enumerate(indices):
            mesh, joints = posed.vertices[row].double().numpy(), posed.joints[row].double().numpy()
            projection = renderer.place(mesh, scenes[row].camera)
            picture = renderer.draw(scenes[row], mesh, projection)
            label = make_label(settings.mesh, scenes[row], mesh, joints, projection, settings.size)
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
