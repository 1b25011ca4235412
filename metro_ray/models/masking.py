"""Masked vertex and joint modelling: hidden tokens say nothing, not even where they are."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MASKED_VALUE = 0.01  # METRO run_metro_bodymesh.py: the constant tensor that replaces a token


def mask_tokens(
    tokens: Float[Tensor, "B N C"], token_mask: Float[Tensor, "B N 1"]
) -> Float[Tensor, "B N C"]:
    """Replaces every entry of masked tokens, template coordinates included, by 0.01.

    Args:
        tokens: Template coordinates and image features.
        token_mask: 1 keeps a token, 0 masks it.
    """
    return torch.where(token_mask > 0.5, tokens, MASKED_VALUE)
