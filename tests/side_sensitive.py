"""A stand-in network whose answer depends on every part of the picture."""

import torch
from torch import nn

from metro_ray.models import MeshPrediction


class SideSensitive(nn.Module):
    """A mesh and a camera that depend on where in the picture things are."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.template = nn.Parameter(torch.rand(40, 3, generator=draw))
        self.weights = nn.Parameter(torch.rand(6, 3 * 16 * 16, generator=draw) / 100)

    def forward(self, images):
        small = nn.functional.adaptive_avg_pool2d(images, 16).flatten(1)
        # Not a matrix product, whose rounding depends on the number of rows.
        found = (small[:, None] * self.weights).sum(dim=2)
        vertices = self.template * (1 + found[:, None, :3])
        camera = torch.tensor([0.8, 0.0, 0.0]) + 0.1 * found[:, 3:]
        return MeshPrediction(camera, vertices[:, :14], (vertices,))
