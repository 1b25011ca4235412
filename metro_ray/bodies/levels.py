"""Mesh levels: how the vertices of the full mesh relate to those of its coarser versions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn


class VertexMap(NamedTuple):
    """Target vertices as weighted sums of K source vertices each; K = 1 is a selection."""

    corners: Int[np.ndarray, "N K"]
    weights: Float[np.ndarray, "N K"]

    def to_matrix(self, num_sources: int) -> Float32[np.ndarray, "N S"]:
        """The map as a dense matrix."""
        matrix = np.zeros((len(self.corners), num_sources), np.float32)
        rows = np.arange(len(self.corners))[:, None]
        np.add.at(matrix, (rows, self.corners), self.weights.astype(np.float32))
        return matrix


class LevelData(NamedTuple):
    """Everything known about the levels of a mesh, coarse to full."""

    down: tuple[VertexMap, ...]
    """From the full mesh to each coarser level."""
    up: tuple[VertexMap, ...]
    """From each level to the next finer one."""
    faces: tuple[Int[np.ndarray, "F 3"], ...]
    """Triangles of each coarser level."""


class MeshLevels(nn.Module):
    """Down-sampling on the device of the mesh, and the matrices of up-sampling."""

    def __init__(self, data: LevelData) -> None:
        super().__init__()
        self._data = data
        self._is_selection = [
            step.corners.shape[1] == 1 and bool(np.all(step.weights == 1.0)) for step in data.down
        ]
        for level, step in enumerate(data.down):
            corners = torch.as_tensor(step.corners, dtype=torch.int64)
            weights = torch.as_tensor(step.weights, dtype=torch.float32)
            self.register_buffer(f"corners_{level}", corners, persistent=False)
            self.register_buffer(f"weights_{level}", weights, persistent=False)
            faces = torch.as_tensor(data.faces[level], dtype=torch.int64)
            self.register_buffer(f"faces_{level}", faces, persistent=False)

    def __len__(self) -> int:
        return len(self._data.down) + 1

    def downsample(self, vertices: Float[Tensor, "B V 3"], level: int) -> Float[Tensor, "B N 3"]:
        """Vertices of one level, 0 the coarsest, from those of the full mesh."""
        if level == len(self) - 1:
            return vertices
        corners = self.get_buffer(f"corners_{level}")
        if self._is_selection[level]:
            return vertices[:, corners[:, 0]]
        weights = self.get_buffer(f"weights_{level}")
        return (vertices[:, corners] * weights[..., None]).sum(dim=2)

    def faces(self, level: int) -> Int[Tensor, "F 3"]:
        """Triangles of a level coarser than the full mesh."""
        return self.get_buffer(f"faces_{level}")

    def upsampling_matrices(self) -> Sequence[Float32[np.ndarray, "F C"]]:
        """Dense matrices coarse -> ... -> full, each (finer vertices, coarser vertices)."""
        sizes = [len(step.corners) for step in self._data.down]
        return [step.to_matrix(size) for step, size in zip(self._data.up, sizes, strict=True)]
