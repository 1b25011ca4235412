"""A body model of 40 vertices and batches for it: fast, exact stand-ins for tests of losses and metrics."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from metro_ray.bodies.joints import J17_TO_J14
from metro_ray.bodies.spec import get_spec
from metro_ray.data.sample import Batch

TOY_BODY = replace(
    get_spec("smpl"), name="toy_body", vertex_levels=(5, 10, 40), num_pose=6, num_betas=2
)
TOY_HAND = replace(
    get_spec("mano"), name="toy_hand", vertex_levels=(10, 40), num_pose=6, num_betas=2
)


class ToyOutput(NamedTuple):
    vertices: torch.Tensor
    joints: torch.Tensor


class ToyBody(nn.Module):
    """Vertices are linear in pose and shape; regressed joints are vertices.

    Body: the 17 Human3.6M joints are vertices 0 to 16, as in golden g9. Hand: joint k is vertex k, the
    layer's own joints lie 1 cm beside them.
    """

    def __init__(self, spec=TOY_BODY):
        super().__init__()
        self.spec = spec
        draw = torch.Generator().manual_seed(5)
        self.template = torch.rand(40, 3, generator=draw) - 0.5
        self.directions = torch.rand(spec.num_pose + spec.num_betas, 120, generator=draw) - 0.5
        self.faces = torch.arange(39).reshape(13, 3)
        self.rows = list(J17_TO_J14) if spec.kind == "body" else list(range(21))
        self.calls = 0

    def forward(self, pose, betas):
        self.calls += 1
        # Not a matrix product, whose rounding depends on the number of rows.
        moved = (torch.cat([pose, betas], dim=1)[:, :, None] * self.directions).sum(dim=1)
        vertices = self.template + moved.reshape(-1, 40, 3)
        count = len(self.spec.label_joints)
        return ToyOutput(vertices, vertices[:, :count] + 0.01)

    def joints_from_mesh(self, vertices):
        return vertices[:, self.rows]

    def root_from_mesh(self, vertices):
        return vertices[:, :1]

    def downsample(self, vertices, level):
        return vertices[:, : self.spec.vertex_levels[level]]


def toy_batch(body, rows=8, seed=0, **changes):
    """A labelled batch with noise in every column; `changes` replaces fields."""
    spec = body.spec
    rng = np.random.default_rng(seed)

    def noise(*shape):
        return torch.from_numpy(rng.uniform(-0.5, 0.5, shape).astype(np.float32))

    count = len(spec.label_joints)
    keypoints_2d, joints_3d = noise(rows, count, 3), noise(rows, count, 4)
    keypoints_2d[..., 2], joints_3d[..., 3] = 1.0, 1.0
    flags = torch.ones(rows, dtype=torch.bool)
    batch = Batch(
        row_id=torch.arange(rows),
        image=torch.zeros(rows, 3, 4, 4, dtype=torch.uint8),
        pixel_gain=torch.ones(rows, 3),
        keypoints_2d=keypoints_2d,
        joints_3d=joints_3d,
        pose=noise(rows, spec.num_pose),
        betas=noise(rows, spec.num_betas),
        has_mesh=flags,
        has_joints_3d=flags,
        has_keypoints_2d=flags,
        token_mask=torch.ones(rows, spec.num_tokens, 1),
        center=torch.zeros(rows, 2),
        scale=torch.ones(rows),
        source=torch.zeros(rows, dtype=torch.int64),
        valid=flags,
        keys=tuple(f"row{i}" for i in range(rows)),
    )
    return batch._replace(**changes)


def take(batch, rows):
    """The chosen rows of a batch."""
    fields = {name: getattr(batch, name)[rows] for name in batch._fields if name != "keys"}
    return batch._replace(**fields, keys=tuple(batch.keys[row] for row in rows))
