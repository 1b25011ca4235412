"""The arithmetic of a forward pass: float32, or a half-width type under autocast."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device | str, precision: Precision) -> torch.autocast:
    """Context in which a network computes; fp32 switches autocast off.

    Coordinates, targets and losses stay in float32 whatever this says, see `Metro.forward`.
    """
    kind = torch.device(device).type
    return torch.autocast(kind, _HALF.get(precision, torch.bfloat16), enabled=precision in _HALF)
