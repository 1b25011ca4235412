"""What a training step has to do, counted on the network itself without computing anything."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig

_BATCH = 2
_GRADIENT_BYTES = 4
_ANY_START: dict[str, Any] = {
    "backbone_init": "random",
    "backbone_weights": None,
    "grid_init": "random",
    "output_init": "random",
    "upsampling_init": "random",
}
"""Where weights start changes no count, and there are none to start with."""


class StepWork(NamedTuple):
    """Of one image in a training step."""

    flops: float
    """Floating point operations, forward and backward; a multiply-add is two."""
    parameters: int
    """Trained numbers."""

    @property
    def gradient_bytes(self) -> int:
        """What all ranks have to add up in each step, in fp32."""
        return _GRADIENT_BYTES * self.parameters


def count_work(config: TrainConfig) -> StepWork:
    """Count the network's operations on tensors that have shapes but no numbers.

    Losses and the optimiser are left out: they are far below a hundredth.

    Args:
        config: `kind`, `model` and `assets` are used.

    Raises:
        ConfigError: The network cannot be built.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from metro_ray.bodies import load_body, resolve_mesh
    from metro_ray.training.builders import build_model

    mesh, _ = resolve_mesh(config.kind, config.model.mesh, config.assets.root)
    body = load_body(mesh, config.assets.root)
    with torch.device("meta"):
        model = build_model(replace(config, model=replace(config.model, **_ANY_START)), body)
    side = config.data.image_size
    # Fake tensors of the CPU: autocast, which the network uses, knows no meta device.
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        model = model.to_empty(device="cpu").train()
        predicted = model(torch.empty(_BATCH, 3, side, side))
        loss = predicted.camera.sum() + sum(level.sum() for level in predicted.vertices)
        loss.backward()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return StepWork(counter.get_total_flops() / _BATCH, trained)
