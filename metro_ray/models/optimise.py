"""A network for prediction only: fewer operations, weights as it computes with them."""

from __future__ import annotations

import torch
from torch import nn

from metro_ray.models.encoder import Encoder
from metro_ray.models.fold import fold_batch_norm
from metro_ray.models.metro import Metro

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def optimised(model: Metro, precision: str) -> Metro:
    """The same network with folded BatchNorm, channels-last and, for halves, converted weights.

    What `Metro` computes in float32 under autocast (coordinates, camera, up-sampling) keeps its
    float32 weights.

    Args:
        model: in evaluation mode; is changed.
        precision: fp32, bf16 or fp16.
    """
    model.backbone = fold_batch_norm(model.backbone)
    model.requires_grad_(False)
    if precision in _HALF:
        for layer in _half_layers(model):
            layer.to(_HALF[precision])
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _half_layers(model: Metro) -> list[nn.Module]:
    layers: list[nn.Module] = [m for m in model.backbone.modules() if isinstance(m, nn.Conv2d)]
    for encoder in model.cascade.encoders:
        assert isinstance(encoder, Encoder)
        in_float32 = {encoder.projection, encoder.residual} if encoder.float32_output else set()
        layers += [m for m in encoder.modules() if isinstance(m, nn.Linear) and m not in in_float32]
    return layers
