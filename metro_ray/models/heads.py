"""What is learned around the transformer: image features of tokens, camera, mesh up-sampling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from metro_ray.errors import ConfigError
from metro_ray.models.backbones import GRID_SIZE

_TEMPLATE_FILL = 0.7
"""Share of the crop that a person fills: METRO's box is 1.2 to 1.5 times as large."""
_TEMPLATE_SIGMA = 0.4
"""Width of the Gaussian in crop coordinates, [-1, 1]: 1.4 cells of the grid."""


class GridTokens(nn.Module):
    """Every token's own mix of the 49 grid positions, the same for all features (METRO body)."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(GRID_SIZE * GRID_SIZE, num_tokens, kernel_size=1)

    def forward(self, features: Float[Tensor, "B C 7 7"]) -> Float[Tensor, "B N C"]:
        return self.mix(features.flatten(2).transpose(1, 2))

    @torch.no_grad()
    def start_from_template(self, template_tokens: Float[Tensor, "N 3"]) -> None:
        """Makes each token look where the template has it, against the picture's average.

        A Gaussian around the token's place minus the mean over the grid, of the length that the
        random start has. Neighbours on the mesh then start with nearly the same feature.

        Args:
            template_tokens: camera-like axes, metres; put into the middle of the crop.
        """
        places = template_tokens[:, :2].float()
        low, high = places.amin(0), places.amax(0)
        places = (places - (low + high) / 2) / (high - low).max() * (2 * _TEMPLATE_FILL)
        cells = (torch.arange(GRID_SIZE) + 0.5) / GRID_SIZE * 2 - 1
        y, x = torch.meshgrid(cells, cells, indexing="ij")
        grid = torch.stack([x.flatten(), y.flatten()], dim=1).to(places.device)
        near = torch.exp(-torch.cdist(places, grid).square() / (2 * _TEMPLATE_SIGMA**2))
        near = near - near.mean(dim=1, keepdim=True)
        near = near / near.norm(dim=1, keepdim=True) / 3**0.5
        self.mix.weight.copy_(near[..., None])
        if self.mix.bias is not None:
            self.mix.bias.zero_()


class PooledTokens(nn.Module):
    """The same average of the map for every token (METRO hand)."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.num_tokens = num_tokens

    def forward(self, features: Float[Tensor, "B C 7 7"]) -> Float[Tensor, "B N C"]:
        return features.mean(dim=(2, 3))[:, None].expand(-1, self.num_tokens, -1)


class CameraHead(nn.Module):
    """Weak-perspective camera (s, tx, ty) from tokens, by three linear maps in a row."""

    def __init__(self, num_tokens: int, hidden: int) -> None:
        super().__init__()
        self.per_token = nn.Linear(3, 1)
        self.over_tokens = nn.Linear(num_tokens, hidden)
        self.output = nn.Linear(hidden, 3)

    def forward(self, tokens: Float[Tensor, "B N 3"]) -> Float[Tensor, "B 3"]:
        return self.output(self.over_tokens(self.per_token(tokens).squeeze(-1)))


class MeshUpsampler(nn.Module):
    """Coarse vertices to each finer level, one learned linear map over the vertex axis a step."""

    def __init__(self, vertex_levels: Sequence[int]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            nn.Linear(coarse, fine) for coarse, fine in pairwise(vertex_levels)
        )

    def forward(self, coarse: Float[Tensor, "B V 3"]) -> tuple[Float[Tensor, "B _ 3"], ...]:
        """Vertices of every level, coarse to full."""
        levels = [coarse.transpose(1, 2)]
        for step in self.steps:
            levels.append(step(levels[-1]))
        return tuple(level.transpose(1, 2) for level in levels)

    @torch.no_grad()
    def start_from_topology(
        self, matrices: Sequence[Float[np.ndarray, "fine coarse"] | Tensor | None] | None
    ) -> None:
        """Makes each step the mesh's own interpolation.

        Raises:
            ConfigError: a matrix is unknown or does not have a step's shape.
        """
        if matrices is None or any(matrix is None for matrix in matrices):
            raise ConfigError(
                "model.upsampling_init topology needs the up-sampling matrices of the body model, "
                "which are not known for it; use model.upsampling_init random"
            )
        expected = [tuple(step.weight.shape) for step in self.steps]  # pyright: ignore
        got = [tuple(matrix.shape) for matrix in matrices if matrix is not None]
        if got != expected:
            raise ConfigError(f"up-sampling matrices have shapes {got}, expected {expected}")
        for step, matrix in zip(self.steps, matrices, strict=True):
            assert isinstance(step, nn.Linear)
            step.weight.copy_(torch.as_tensor(matrix))
            step.bias.zero_()


def build_image_tokens(feature: Literal["grid", "pooled"], num_tokens: int) -> nn.Module:
    """How the image reaches the tokens."""
    return GridTokens(num_tokens) if feature == "grid" else PooledTokens(num_tokens)
