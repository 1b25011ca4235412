"""Closest points on triangle meshes, and coarse selections of a mesh, for mesh levels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree


class SurfacePoints(NamedTuple):
    """Points on a mesh as weighted sums of the corners of one face each."""

    corners: Int[np.ndarray, "N 3"]
    weights: Float[np.ndarray, "N 3"]
    distance: Float[np.ndarray, "N"]

    def interpolate(self, values: Float[np.ndarray, "V C"]) -> Float[np.ndarray, "N C"]:
        """Values of the vertices at these points."""
        return np.einsum("nk,nkc->nc", self.weights, values[self.corners])


def closest_on_mesh(
    points: Float[np.ndarray, "N 3"],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    num_neighbours: int = 12,
) -> SurfacePoints:
    """Closest surface point of each point, among the faces around its nearest vertices.

    Args:
        points: metres.
        vertices: metres; those without a face are never looked at.
        faces: triangles.
        num_neighbours: vertices whose faces are tried; a face much larger than its neighbours needs
            more of them to be found.
    """
    used = np.unique(faces)
    neighbours = KDTree(vertices[used]).query(points, k=min(num_neighbours, len(used)))[1]
    neighbours = used[neighbours.reshape(len(points), -1)]
    faces_of = [np.empty(0, np.int64)] * len(vertices)
    order = np.argsort(faces.ravel(), kind="stable")
    bounds = np.searchsorted(faces.ravel()[order], np.arange(len(vertices) + 1))
    for vertex in used:
        faces_of[vertex] = order[bounds[vertex] : bounds[vertex + 1]] // 3
    tried = [np.unique(np.concatenate([faces_of[v] for v in row])) for row in neighbours]
    owner = np.repeat(np.arange(len(points)), [len(row) for row in tried])
    face = np.concatenate(tried)
    weights = _closest_weights(points[owner], vertices[faces[face]])
    nearest = np.einsum("nk,nkc->nc", weights, vertices[faces[face]])
    distance = np.linalg.norm(nearest - points[owner], axis=1)
    best = np.lexsort((distance, owner))
    best = best[np.searchsorted(owner[best], np.arange(len(points)))]
    return SurfacePoints(faces[face[best]], weights[best], distance[best])


def _closest_weights(
    points: Float[np.ndarray, "N 3"], triangles: Float[np.ndarray, "N 3 3"]
) -> Float[np.ndarray, "N 3"]:
    """Barycentric weights of the closest point of each triangle to its point.

    The foot of the perpendicular when it lies inside, else the nearest of the closest points of the
    three edges.
    """
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    d20, d21 = (ap * ab).sum(1), (ap * ac).sum(1)
    determinant = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v = (d11 * d20 - d01 * d21) / determinant
    w = (d00 * d21 - d01 * d20) / determinant
    candidates = [np.stack([1.0 - v - w, v, w], axis=1)]
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = triangles[:, j] - triangles[:, i]
        length = np.maximum((edge * edge).sum(1), 1e-30)
        along = np.clip(((points - triangles[:, i]) * edge).sum(1) / length, 0.0, 1.0)
        on_edge = np.zeros((len(points), 3))
        on_edge[:, i], on_edge[:, j] = 1.0 - along, along
        candidates.append(on_edge)
    stacked = np.stack(candidates)
    gap = np.einsum("mnk,nkc->mnc", stacked, triangles) - points
    distance = (gap * gap).sum(2)
    distance[0][(stacked[0] < 0).any(axis=1)] = np.inf
    return stacked[distance.argmin(axis=0), np.arange(len(points))]


class Selection(NamedTuple):
    """A coarse mesh whose vertices are some of a finer mesh's."""

    vertices: Int[np.ndarray, "C"]
    faces: Int[np.ndarray, "F 3"]


def select_coarse(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], count: int
) -> Selection:
    """Farthest-point selection of vertices and the faces between their neighbourhoods.

    Distances run along the edges of the mesh, so that fingers which lie side by side stay apart.
    Each fine vertex belongs to its nearest selected vertex; a fine face whose corners belong to
    three of them makes a coarse face.

    Args:
        vertices: metres.
        faces: triangles of one connected surface.
        count: number of vertices to keep.
    """
    edges = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    graph = csr_matrix((length, (edges[:, 0], edges[:, 1])), shape=(len(vertices),) * 2)
    distance = dijkstra(graph, directed=False)
    chosen = [int(np.argmax(distance[0]))]
    nearest = distance[chosen[0]].copy()
    while len(chosen) < count:
        chosen.append(int(np.argmax(nearest)))
        np.minimum(nearest, distance[chosen[-1]], out=nearest)
    selected = np.sort(np.array(chosen))
    owner = distance[selected].argmin(axis=0)[faces]
    distinct = (
        (owner[:, 0] != owner[:, 1]) & (owner[:, 1] != owner[:, 2]) & (owner[:, 2] != owner[:, 0])
    )
    coarse = owner[distinct]
    first = coarse.argmin(axis=1)[:, None]
    coarse = np.take_along_axis(coarse, (first + np.arange(3)) % 3, axis=1)
    return Selection(selected, np.unique(coarse, axis=0))
