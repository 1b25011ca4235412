"""What a trial's network costs, without making it: parameters and the memory of a training step.

The network is run once on tensors that have shapes and no content, so all of it takes a second and
no memory; what autograd would keep for the backward pass is added up.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from metro_ray.errors import ConfigError
from metro_ray.models.blocks import start_from_shortcuts
from metro_ray.training.builders import build_network

if TYPE_CHECKING:
    from torch import Tensor

    from metro_ray.bodies.spec import MeshSpec
    from metro_ray.config.schema import TrainConfig
    from metro_ray.models import Metro

_BYTES_PER_PARAMETER = 16
"""float32: weight, gradient and Adam's two moments."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Footprint(NamedTuple):
    """Of one rank."""

    parameters: int
    step_bytes: int
    """Weights, gradients, Adam's state and activations of a step; libraries and data come on top.
    """


class Footprints:
    """Footprints of trials; networks that are alike are measured once.

    Args:
        spec: Mesh that is predicted.
    """

    def __init__(self, spec: MeshSpec) -> None:
        self._spec = spec
        self._known: dict[str, Footprint] = {}

    def of(self, config: TrainConfig) -> Footprint:
        """The footprint of a run.

        Raises:
            ConfigError: The network cannot be built: an unknown backbone, numbers that do not fit.
        """
        optim = config.optim
        key = repr((asdict(config.model), optim.per_gpu_batch_size, optim.precision))
        if key not in self._known:
            self._known[key] = measure(config, self._spec)
        return self._known[key]


def measure(config: TrainConfig, spec: MeshSpec) -> Footprint:
    """Parameters and the memory of a training step on one rank.

    Raises:
        ConfigError: The network cannot be built.
    """
    with FakeTensorMode():
        model = _build(config, spec)
        own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
            return tensor

        dtype = _DTYPES[config.optim.precision]
        batch = config.optim.per_gpu_batch_size
        with (
            torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32),
            saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            prediction = model(
                torch.empty(batch, 3, 224, 224), torch.ones(batch, spec.num_tokens, 1)
            )
        activations = sum(s.nbytes() for key, s in kept.items() if key not in own)
        del prediction
    parameters = sum(parameter.numel() for parameter in model.parameters())
    averages = 4 if config.optim.ema_decay is not None else 0
    step_bytes = (_BYTES_PER_PARAMETER + averages) * parameters + activations
    return Footprint(parameters, step_bytes)


def _build(config: TrainConfig, spec: MeshSpec) -> Metro:
    settings = config.model
    model = build_network(settings, spec, torch.empty(spec.num_tokens, 3))
    if settings.backbone_init == "shortcut" and not start_from_shortcuts(model.backbone):
        raise ConfigError(f"model.backbone_init shortcut changes nothing in {settings.arch}")
    model.recompute(settings.recompute)
    return model.train()
