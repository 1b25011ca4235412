"""METRO's progressive dimensionality reduction: encoders in a row, each narrower than the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metro_ray.errors import ConfigError
from metro_ray.models.encoder import Encoder, EncoderOutput

COORDINATES = 3
_METRO_BODY_INTERMEDIATE = 3072  # METRO's "legacy setting": every block of the body network


class Cascade(nn.Module):
    """Tokens of coordinates and image features to coordinates, e.g. 2051 -> 512 -> 128 -> 3."""

    def __init__(
        self,
        num_tokens: int,
        *,
        input_dims: Sequence[int],
        hidden_dims: Sequence[int],
        intermediate_size: Literal["metro_body", "4x"] | int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        """See `build_metro` for the arguments.

        Raises:
            ConfigError: the lists differ in length, or the heads do not divide a hidden width.
        """
        super().__init__()
        _check_dims(input_dims, hidden_dims, num_layers, num_heads)
        output_dims = [*input_dims[1:], COORDINATES]
        last = len(input_dims) - 1
        self.encoders = nn.ModuleList(
            Encoder(
                num_tokens,
                input_dim,
                hidden_dim,
                output_dim,
                intermediate_dim=intermediate_dim(intermediate_size, hidden_dim),
                num_layers=num_layers,
                num_heads=num_heads,
                dropout=dropout,
                attention_dropout=attention_dropout,
                float32_output=index == last,
            )
            for index, (input_dim, hidden_dim, output_dim) in enumerate(
                zip(input_dims, hidden_dims, output_dims, strict=True)
            )
        )

    def forward(
        self, tokens: Float[Tensor, "B N C"], return_attention: bool = False
    ) -> EncoderOutput:
        """Coordinates; attention maps and hidden states are those of the last encoder."""
        output = EncoderOutput(tokens)
        last = len(self.encoders) - 1
        for index, encoder in enumerate(self.encoders):
            output = encoder(output.tokens, return_attention and index == last)
        return output


@torch.no_grad()
def start_from_template(cascade: Cascade) -> None:
    """Makes an untrained cascade predict the template that its tokens carry.

    The coordinates in front of each token pass through the linear shortcuts unchanged, and the
    transformer layers start by adding nothing to them.
    """
    last = len(cascade.encoders) - 1
    for index, encoder in enumerate(cascade.encoders):
        assert isinstance(encoder, Encoder)
        encoder.residual.weight[:COORDINATES].zero_()
        encoder.residual.weight[:COORDINATES, :COORDINATES].fill_diagonal_(1.0)
        rows = slice(None) if index == last else slice(COORDINATES)
        encoder.projection.weight[rows].zero_()


def intermediate_dim(rule: Literal["metro_body", "4x"] | int, hidden_dim: int) -> int:
    """Width of the feed-forward nets of an encoder by METRO's rule, or as given."""
    if rule == "metro_body":
        return _METRO_BODY_INTERMEDIATE
    return 4 * hidden_dim if rule == "4x" else rule


def _check_dims(
    input_dims: Sequence[int], hidden_dims: Sequence[int], num_layers: int, num_heads: int
) -> None:
    if len(input_dims) != len(hidden_dims) or not input_dims:
        raise ConfigError(
            "input_feat_dim and hidden_feat_dim must be lists of the same length, "
            f"got {list(input_dims)} and {list(hidden_dims)}"
        )
    if num_layers < 1:
        raise ConfigError(f"num_hidden_layers must be at least 1, got {num_layers}")
    for hidden_dim in hidden_dims:
        if num_heads < 1 or hidden_dim % num_heads:
            raise ConfigError(
                f"num_attention_heads must divide every hidden_feat_dim {list(hidden_dims)}, "
                f"got {num_heads}"
            )
