"""Parameter counts: METRO's, which include what is never trained, and ours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from metro_ray.models.encoder import Encoder
from metro_ray.models.hrnet import FEATURE_CHANNELS, HRNet
from metro_ray.models.metro import Metro
from metro_ray.models.metro_format import (
    CLASSES,
    POSITION_ROWS,
    TOKEN_TYPES,
    VOCABULARY,
)


class ParameterReport(NamedTuple):
    """How many numbers are trained, as METRO counts and as we do."""

    metro_transformers: int
    """METRO's log line "Transformers total parameters"."""
    metro_backbone: int
    """METRO's log line "Backbone total parameters"."""
    ours_transformers: int
    ours_backbone: int
    text: str
    """The difference in one line."""


def count_parameters(model: Metro) -> ParameterReport:
    """Counts of the transformer encoders and of the backbone."""
    ours_transformers = _count(model.cascade.parameters())
    ours_backbone = _count(model.backbone.parameters())
    dead_transformers = sum(_dead_in_encoder(encoder) for encoder in model.cascade.encoders)
    has_classifier = isinstance(model.backbone, HRNet)
    dead_backbone = CLASSES * (FEATURE_CHANNELS + 1) if has_classifier else 0
    text = (
        f"Of METRO's {ours_transformers + dead_transformers} transformer and "
        f"{ours_backbone + dead_backbone} backbone parameters, {ours_transformers} and "
        f"{ours_backbone} exist here: METRO's word embeddings, poolers, unused position rows"
        f"{' and ImageNet classifier' if has_classifier else ''} never get a gradient"
    )
    return ParameterReport(
        metro_transformers=ours_transformers + dead_transformers,
        metro_backbone=ours_backbone + dead_backbone,
        ours_transformers=ours_transformers,
        ours_backbone=ours_backbone,
        text=text,
    )


def _dead_in_encoder(encoder: nn.Module) -> int:
    """Embedding tables, their LayerNorm, the pooler, and position rows past the last token."""
    assert isinstance(encoder, Encoder)
    num_tokens, hidden = encoder.positions.shape
    tables = (VOCABULARY + POSITION_ROWS + TOKEN_TYPES) * hidden
    return tables + 2 * hidden + hidden * (hidden + 1) + (POSITION_ROWS - num_tokens) * hidden


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
