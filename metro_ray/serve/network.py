"""A checkpoint as a network that answers quickly: built once, warmed for each batch size, fixed.

BatchNorm is folded into convolutions, memory is channels-last, half precision converts the weights
once instead of in each pass. Where shapes matter (GPUs, torch.compile) batches are filled up to a
few fixed sizes, each of which has run before the first request.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Int32, UInt8
from torch import nn

from metro_ray.bodies.spec import MeshSpec
from metro_ray.errors import CheckpointError, ConfigError
from metro_ray.inference.onnx_export import write_onnx
from metro_ray.inference.onnx_network import OnnxNetwork
from metro_ray.inference.predictor import Predictor
from metro_ray.inference.result import MeshArrays
from metro_ray.models.optimise import optimised
from metro_ray.models.precision import Precision
from metro_ray.serve.schema import Task
from metro_ray.serve.sources import version_of
from metro_ray.training.checkpoint import PredictorParts, load_predictor_parts

if TYPE_CHECKING:
    from metro_ray.serve.settings import ModelSettings

_LOG = logging.getLogger(__name__)
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Card:
    """What there is to say about a network that answers."""

    name: str
    version: str
    body_model: str
    checkpoint: str
    arch: str
    input_size: int
    precision: str
    runtime: str = "torch"


@dataclass(frozen=True, slots=True)
class Mesh:
    """The surface that networks of a body model predict."""

    body_model: str
    faces: Int32[np.ndarray, "F 3"]


class Runtime(NamedTuple):
    """Something that computes a network."""

    run: Callable[[UInt8[np.ndarray, "B 3 S S"]], MeshArrays]
    precision: str
    sizes: tuple[int, ...]
    """Batches are filled up to one of these; empty: of any size."""


class ServedNetwork:
    """A network with its version.

    Args:
        folder: local checkpoint folder.
        task: what it must predict.
        settings: how it computes.

    Raises:
        CheckpointError: the folder is no complete checkpoint, or predicts something else.
        AssetNotFoundError: its body model is not on this machine.
        ConfigError: the device or the runtime is not there.
    """

    def __init__(self, folder: Path, task: Task, settings: ModelSettings) -> None:
        device = _device(settings)
        parts = load_predictor_parts(folder, settings.assets_root)
        spec = parts.body.spec
        if spec.kind != task:
            raise CheckpointError(
                f"{folder} predicts {spec.name}, a {spec.kind}, and cannot serve {task}: name it "
                f"as {spec.kind}, or give a checkpoint of a {task}"
            )
        self._device = device
        self.spec: MeshSpec = spec
        self.card = Card(
            name=settings.name or task,
            version=version_of(folder),
            body_model=spec.name,
            checkpoint=folder.name,
            arch=parts.config.model.arch,
            input_size=parts.config.data.image_size,
            precision=settings.precision or parts.config.optim.precision,
        )
        self.mesh = Mesh(spec.name, parts.body.faces.cpu().numpy().astype(np.int32))
        self._settings = settings
        self._runtimes = self._load(folder, parts)
        self._use(next(iter(self._runtimes)))

    def warm_up(self) -> None:
        """Run each batch size once, so that no request waits for memory plans or compilers.

        Where two runtimes were asked for, the faster one stays.
        """
        start = time.perf_counter()
        for name in self._runtimes:
            self._use(name)
            for size in self._runtime.sizes or (1,):
                self.predict(self._black(size))
        if len(self._runtimes) > 1:
            self._use(self._fastest())
        self._runtimes = {self.card.runtime: self._runtime}
        _LOG.info("%s is warm after %.1f s", self.card, time.perf_counter() - start)

    def predict(self, crops: UInt8[np.ndarray, "B 3 S S"]) -> MeshArrays:
        """The meshes of a batch."""
        count = len(crops)
        size = next((size for size in self._runtime.sizes if size >= count), count)
        if size > count:
            filling = np.zeros((size - count, *crops.shape[1:]), np.uint8)
            crops = np.concatenate([crops, filling])
        return MeshArrays(*(array[:count] for array in self._runtime.run(crops)))

    def _load(self, folder: Path, parts: PredictorParts) -> dict[str, Runtime]:
        """What the settings ask for, each ready to run."""
        asked, found = self._settings.runtime, {}
        if asked in ("onnxruntime", "auto"):
            threads = self._settings.cpu_threads or math.ceil(self._settings.cpus)
            with tempfile.TemporaryDirectory(prefix="metro-onnx-") as temporary:
                path = Path(temporary) / "model.onnx"
                write_onnx(parts, self.card.version, path)
                network = OnnxNetwork(path, threads=threads)
            found["onnxruntime"] = Runtime(network.predict_arrays, "fp32", ())
        if asked in ("torch", "auto"):
            found["torch"] = self._torch(parts)
        return found

    def _torch(self, parts: PredictorParts) -> Runtime:
        settings, device, precision = self._settings, self._device, self.card.precision
        model = optimised(parts.model.to(device), precision)
        predictor = Predictor(
            model,
            parts.body,
            device,
            precision=cast(Precision, precision),
            channels_last=True,
            image_size=self.card.input_size,
        )
        if settings.compile:
            predictor.model = cast(nn.Module, torch.compile(model, dynamic=False))
        fixed = settings.compile or device.type == "cuda"
        sizes = batch_sizes(settings.max_batch_size) if fixed else ()
        return Runtime(predictor.predict_arrays, precision, sizes)

    def _use(self, name: str) -> None:
        self._runtime = self._runtimes[name]
        self.card = replace(self.card, runtime=name, precision=self._runtime.precision)

    def _fastest(self) -> str:
        """The runtime that takes the least time a person, alone and in a whole batch."""
        sizes = sorted({1, self._settings.max_batch_size})
        seconds = {name: [math.inf] * len(sizes) for name in self._runtimes}
        for _ in range(_ROUNDS):
            for name, found in seconds.items():
                self._use(name)
                for place, size in enumerate(sizes):
                    start = time.perf_counter()
                    self.predict(self._black(size))
                    found[place] = min(found[place], (time.perf_counter() - start) / size)
        _LOG.info("seconds a person in batches of %s: %s", sizes, seconds)
        return min(seconds, key=lambda name: math.prod(seconds[name]))

    def _black(self, size: int) -> UInt8[np.ndarray, "B 3 S S"]:
        side = self.card.input_size
        return np.zeros((size, 3, side, side), np.uint8)


def batch_sizes(largest: int) -> tuple[int, ...]:
    """Powers of two below the largest batch, and it."""
    powers = [2**i for i in range(math.ceil(math.log2(largest)))]
    return (*powers, largest)


def _device(settings: ModelSettings) -> torch.device:
    kind = settings.device
    if kind == "auto":
        kind = "cuda" if settings.gpus > 0 else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device cuda is asked for (gpus: {settings.gpus}), but PyTorch finds no GPU in the "
            "replica: start Ray with --num-gpus where GPUs are, or set gpus: 0 and device: cpu"
        )
    return torch.device(kind)
