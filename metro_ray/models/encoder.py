"""One of METRO's transformer encoders: post-norm BERT layers between two linear maps.

"End-to-End Human Pose and Mesh Reconstruction with Transformers" (Lin et al., CVPR 2021), section
3.2; layers as in "BERT" (Devlin et al., 2018). Only what METRO uses exists here: its word
embeddings, poolers and the position rows past the last token never get a gradient.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from metro_ray.models.dropout import Dropout, dropout
from metro_ray.models.recompute import recompute

_LAYER_NORM_EPS = 1e-12
_INIT_STD = 0.02


class EncoderOutput(NamedTuple):
    """What an encoder returns; the tuples are None unless they were asked for."""

    tokens: Float[Tensor, "B N D"]
    attentions: tuple[Float[Tensor, "B heads N N"], ...] | None = None
    """Attention weights of each layer."""
    hidden_states: tuple[Float[Tensor, "B N H"], ...] | None = None
    """Embedded input, then the output of each layer."""


class SelfAttention(nn.Module):
    """Multi-head self-attention; scores are divided by the root of the head size."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "B N H"], return_attention: bool = False
    ) -> tuple[Float[Tensor, "B N H"], Float[Tensor, "B heads N N"] | None]:
        query, key, value = (self._heads(layer(x)) for layer in (self.query, self.key, self.value))
        share = self.dropout if self.training else 0.0
        attention = None
        # PyTorch's fused attention has no dropout on CPUs, and what stands in for it is slower.
        if return_attention or (share > 0 and x.device.type == "cpu"):
            scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
            attention = dropout(scores.softmax(dim=-1), share)
            mixed = attention @ value.to(attention.dtype)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=share)
        mixed = self.output(mixed.transpose(1, 2).flatten(2))
        return mixed, attention if return_attention else None

    def _heads(self, x: Float[Tensor, "B N H"]) -> Float[Tensor, "B heads N size"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward net with erf GELU, each added and then normalised."""

    def __init__(
        self,
        dim: int,
        intermediate_dim: int,
        num_heads: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, num_heads, attention_dropout)
        self.attention_norm = nn.LayerNorm(dim, eps=_LAYER_NORM_EPS)
        self.widen = nn.Linear(dim, intermediate_dim)
        self.narrow = nn.Linear(intermediate_dim, dim)
        self.output_norm = nn.LayerNorm(dim, eps=_LAYER_NORM_EPS)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B N H"], return_attention: bool = False
    ) -> tuple[Float[Tensor, "B N H"], Float[Tensor, "B heads N N"] | None]:
        mixed, attention = self.attention(x, return_attention)
        x = self.attention_norm(self.dropout(mixed) + x)
        wide = F.gelu(self.widen(x))
        return self.output_norm(self.dropout(self.narrow(wide)) + x), attention


class Encoder(nn.Module):
    """Tokens of one width to tokens of another: embed, add positions, layers, project.

    The projection of the last layer and a linear map of the raw input are added. There is no
    LayerNorm after the embedding (METRO's configuration does not switch it on).
    """

    recompute = False
    """Keep the activations between layers only; same numbers, less memory."""

    def __init__(
        self,
        num_tokens: int,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        *,
        intermediate_dim: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        attention_dropout: float,
        float32_output: bool = False,
    ) -> None:
        super().__init__()
        self.float32_output = float32_output
        self.embedding = nn.Linear(input_dim, hidden_dim)
        self.positions = nn.Parameter(torch.empty(num_tokens, hidden_dim))
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(hidden_dim, intermediate_dim, num_heads, dropout, attention_dropout)
            for _ in range(num_layers)
        )
        self.projection = nn.Linear(hidden_dim, output_dim)
        self.residual = nn.Linear(input_dim, output_dim)
        self._initialise()

    def forward(
        self, tokens: Float[Tensor, "B N C"], return_attention: bool = False
    ) -> EncoderOutput:
        x = self.dropout(self.embedding(tokens) + self.positions)
        hidden_states, attentions = [x], []
        for layer in self.layers:
            if self.recompute and self.training:
                x, attention = recompute(layer, x, return_attention)
            else:
                x, attention = layer(x, return_attention)
            hidden_states.append(x)
            attentions.append(attention)
        projected = self._project(x, tokens)
        if not return_attention:
            return EncoderOutput(projected)
        return EncoderOutput(projected, tuple(attentions), tuple(hidden_states))

    def _project(
        self, hidden: Float[Tensor, "B N H"], tokens: Float[Tensor, "B N C"]
    ) -> Float[Tensor, "B N D"]:
        """Output tokens; in float32 even under autocast where they are coordinates.

        bfloat16 would round them to 2 mm at 1 m, and these two maps cost next to nothing.
        """
        if not self.float32_output:
            return self.projection(hidden) + self.residual(tokens)
        with torch.autocast(hidden.device.type, enabled=False):
            return self.projection(hidden.float()) + self.residual(tokens.float())

    def _initialise(self) -> None:
        """BERT's start: all weights and positions N(0, 0.02), biases 0, LayerNorm 1 and 0."""
        nn.init.normal_(self.positions, std=_INIT_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_INIT_STD)
                nn.init.zeros_(module.bias)
