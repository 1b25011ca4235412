"""Left and right of a mesh: which vertices and joints swap when a person is mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from scipy.spatial import KDTree
from torch import Tensor

from metro_ray.bodies.joints import flip_pairs
from metro_ray.errors import ConfigError
from metro_ray.evaluation.evaluate import RootRelative

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel

_MAX_GAP = 0.005
"""How far a vertex may lie from where its partner is mirrored to, metres."""
_MIN_SHARED_EDGES = 0.95
"""Quads may be cut along the other diagonal on the other side; the other edges must agree."""


class Mirror(NamedTuple):
    """The partner on the other side of each vertex and joint; those in the middle have themselves.

    Mirroring twice changes nothing.
    """

    vertices: Int[Tensor, " V"]
    joints: Int[Tensor, " J"]

    def apply(self, prediction: RootRelative) -> RootRelative:
        """What is predicted for the mirrored picture from what is for the picture, or back."""
        turn = prediction.vertices.new_tensor((-1.0, 1.0, 1.0))
        return RootRelative(
            prediction.vertices[:, self.vertices] * turn, prediction.joints[:, self.joints] * turn
        )


def find_mirror(body: BodyModel) -> Mirror:
    """The mirror of a body model, found in its template mesh.

    Raises:
        ConfigError: a hand, which has no other side, or a mesh that is not symmetric.
    """
    spec = body.spec
    if spec.kind != "body":
        raise ConfigError(
            f"views.flip is for bodies: {spec.name} is a right hand, mirrored it is a left one, "
            "which its network has never seen; leave views.flip out"
        )
    template = body.template_vertices.double().cpu().numpy()
    gaps, found = KDTree(template).query(template * (-1.0, 1.0, 1.0))
    partner = np.asarray(found, np.int64)
    numbers = np.arange(len(template))
    alone = int(((partner[partner] != numbers) | (gaps > _MAX_GAP)).sum())
    shared = _shared_edges(body.faces.cpu().numpy(), partner)
    if alone or shared < _MIN_SHARED_EDGES:
        raise ConfigError(
            f"views.flip needs a mesh whose left and right sides correspond; in the template of "
            f"{spec.name} {alone} of {len(template)} vertices have no partner on the other side "
            f"and {100 * shared:.0f} % of the edges have one; leave views.flip out"
        )
    joints = np.arange(spec.num_joints)
    for left, right in flip_pairs(spec.joints.names):
        joints[[left, right]] = right, left
    device = body.template_vertices.device
    return Mirror(torch.from_numpy(partner).to(device), torch.from_numpy(joints).to(device))


def _shared_edges(faces: Int[np.ndarray, "F 3"], partner: Int[np.ndarray, " V"]) -> float:
    """Share of the mesh's edges that are edges again on the other side."""

    def edges(triangles: Int[np.ndarray, "F 3"]) -> set[tuple[int, int]]:
        pairs = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        return set(map(tuple, pairs.tolist()))

    own = edges(faces)
    return len(own & edges(partner[faces])) / len(own)
