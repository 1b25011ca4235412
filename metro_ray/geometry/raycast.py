"""Headless mesh rendering: which face is seen through each pixel, and how bright it is.

One ray a pixel, parallel to the optical axis, solved for many faces at once in numpy: on every line
of its bounding box a face knows from which column to which it reaches, and the nearest face keeps
the pixel. No OpenGL and no tree to build for a mesh that is new in every image, which is why it is
faster here than `embreex` (measured: docs/synth.md).

Pixel frame: x right and y down in pixels, a pixel's centre has integer coordinates (as in OpenCV's
drawing functions), z in any unit, smaller is nearer. Perspective is the caller's business: divide
x and y by depth before the call (`render` then interpolates linearly on the screen).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

# Weights this little below zero still count as inside: a pixel on a shared edge must not fall
# through the crack between two faces.
_EDGE_TOLERANCE = 1e-9
# Faces are drawn in groups whose boxes hold about this many pixels, so that the arrays in work fit
# the processor's cache.
_GROUP_PIXELS = 100_000


class Raycast(NamedTuple):
    """What each pixel sees.

    Attributes:
        face_index: row of `faces`, -1 where the ray meets nothing.
        depth: z of the surface, infinity where there is none.
        bary: weights of the face's three vertices, zeros where there is none.
    """

    face_index: Int32[np.ndarray, "H W"]
    depth: Float32[np.ndarray, "H W"]
    bary: Float32[np.ndarray, "H W 3"]


class Lights(NamedTuple):
    """Lambert lighting.

    Attributes:
        directions: unit vectors from the surface to each light, in the frame of the normals.
        colors: linear RGB of each light.
        ambient: linear RGB that reaches every point.
    """

    directions: Float[np.ndarray, "L 3"]
    colors: Float[np.ndarray, "L 3"]
    ambient: Float[np.ndarray, "3"]


class _Faces(NamedTuple):
    """The faces that are drawn; weights w of their corners are linear on the screen."""

    index: Int[np.ndarray, "F"]
    first: Int[np.ndarray, "F 2"]  # x, y of the box's upper left pixel
    size: Int[np.ndarray, "F 2"]  # columns, lines of the box
    origin: Float[np.ndarray, "F 3"]  # w at the first pixel
    slope_x: Float[np.ndarray, "F 3"]  # change of w per column
    slope_y: Float[np.ndarray, "F 3"]  # change of w per line
    depth: Float[np.ndarray, "F 3"]  # of the corners


class _Hits(NamedTuple):
    """All pairs of a face and a pixel whose centre it covers."""

    pixel: Int[np.ndarray, "N"]  # y * width + x
    face: Int[np.ndarray, "N"]
    depth: Float32[np.ndarray, "N"]
    bary: Float[np.ndarray, "N 3"]


def render(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    width: int,
    height: int,
    *,
    cull_backfaces: bool = False,
) -> Raycast:
    """Cast one ray through the centre of every pixel.

    Args:
        vertices: pixel frame, see above. Faces with a vertex that is not finite are not drawn.
        faces: zero-based triangles.
        width: image width in pixels.
        height: image height in pixels.
        cull_backfaces: leave out faces whose outer side (vertices counter-clockwise seen from
            outside, right-handed frame) looks away; for closed meshes the picture is the same.

    Returns:
        Face, depth and barycentric weights of each pixel. Of two faces at the same depth the one
        with the smaller index is seen.

    Raises:
        ValueError: shapes, sizes or indices that cannot be drawn.
    """
    points = np.array(vertices, dtype=np.float64)
    triangles = np.asarray(faces)
    _check(points, triangles, width, height)
    points[~np.isfinite(points).all(axis=1)] = np.nan  # infinities would warn, NaN does not
    face_index = np.full(height * width, -1, dtype=np.int32)
    depth = np.full(height * width, np.inf, dtype=np.float32)
    bary = np.zeros((height * width, 3), dtype=np.float32)
    winner = np.empty(height * width, dtype=np.int64)
    for group in _groups(_visible_faces(points, triangles, width, height, cull_backfaces)):
        found = _hits(group, width)
        nearer = np.flatnonzero(found.depth < depth[found.pixel])
        # Far to near, and equal depths from the last face to the first: numpy's assignment keeps
        # the last value written to a repeated index, so the nearest, first face stays.
        order = nearer[np.argsort(found.depth[nearer], kind="stable")[::-1]]
        winner[found.pixel[order]] = order
        seen = nearer[winner[found.pixel[nearer]] == nearer]
        pixels = found.pixel[seen]
        face_index[pixels] = found.face[seen]
        depth[pixels] = found.depth[seen]
        bary[pixels] = found.bary[seen]
    return Raycast(
        face_index.reshape(height, width),
        depth.reshape(height, width),
        bary.reshape(height, width, 3),
    )


def interpolate(
    raycast: Raycast, faces: Int[np.ndarray, "F 3"], attributes: Float[np.ndarray, "V C"]
) -> Float32[np.ndarray, "H W C"]:
    """Blend values given at vertices (normals, colours, positions) over the seen surface.

    Returns:
        The blended values, zeros where the ray meets nothing.
    """
    out = np.zeros((*raycast.face_index.shape, attributes.shape[1]), dtype=np.float32)
    mask = raycast.face_index >= 0
    corners = np.asarray(faces)[raycast.face_index[mask]]
    weights = raycast.bary[mask]
    values = np.asarray(attributes, dtype=np.float32)
    blended = weights[:, :1] * values[corners[:, 0]]
    blended += weights[:, 1:2] * values[corners[:, 1]]
    blended += weights[:, 2:] * values[corners[:, 2]]
    out[mask] = blended
    return out


def vertex_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float32[np.ndarray, "V 3"]:
    """Outward unit normals: the mean of the adjacent faces' normals, weighted by their area.

    Faces are counter-clockwise seen from outside; the frame is right-handed (x right, y down,
    z away is). Vertices without area around them get zeros.
    """
    points = np.asarray(vertices, dtype=np.float64)
    a, b, c = (points[faces[:, k]] for k in range(3))
    face_normals = np.cross(b - a, c - a)
    index = np.asarray(faces).T.ravel()
    columns = (np.tile(face_normals[:, k], 3) for k in range(3))
    total = np.stack([np.bincount(index, c, minlength=len(points)) for c in columns], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(total), where=length > 0).astype(np.float32)


def shade(
    normals: Float[np.ndarray, "*shape 3"],
    albedo: Float[np.ndarray, "*shape 3"],
    lights: Lights,
    *,
    two_sided: bool = False,
) -> Float32[np.ndarray, "*shape 3"]:
    """Lambert shading: albedo times (ambient + light colour times the cosine to the light).

    Args:
        normals: outward normals of any length (zeros receive ambient light only).
        albedo: linear RGB, the surface's own colour; broadcasts against `normals`.
        lights: see `Lights`; same frame as the normals.
        two_sided: turn normals that look away from the viewer (z > 0) towards him, for open
            meshes whose inside can be seen.

    Returns:
        Linear RGB, not clipped.
    """
    normal = np.asarray(normals, dtype=np.float32)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)
    if two_sided:
        normal = np.where(normal[..., 2:] > 0, -normal, normal)
    cosine = np.maximum(normal @ np.asarray(lights.directions, dtype=np.float32).T, 0.0)
    light = cosine @ np.asarray(lights.colors, dtype=np.float32)
    light += np.asarray(lights.ambient, dtype=np.float32)
    return np.asarray(albedo, dtype=np.float32) * light


def studio_lights() -> Lights:
    """Three soft lights that show a mesh's form: key from above left, fill from right, rim below.

    Frame: x right, y down, z away from the viewer.
    """
    directions = np.array([[-0.45, -0.65, -0.75], [0.8, -0.2, -0.55], [0.1, 0.9, -0.2]])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    colors = np.array([[0.62, 0.61, 0.60], [0.28, 0.29, 0.31], [0.10, 0.10, 0.11]])
    return Lights(directions, colors, np.array([0.22, 0.22, 0.23]))


def _check(points: np.ndarray, faces: np.ndarray, width: int, height: int) -> None:
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"vertices must have shape (V, 3), got {points.shape}")
    if faces.ndim != 2 or faces.shape[1] != 3 or not np.issubdtype(faces.dtype, np.integer):
        raise ValueError(f"faces must be integers (F, 3), got {faces.dtype} {faces.shape}")
    if width < 1 or height < 1:
        raise ValueError(f"the image must have at least one pixel, got {width} x {height}")
    if faces.size and (faces.min() < 0 or faces.max() >= len(points)):
        raise ValueError(
            f"faces must index the {len(points)} vertices, got {faces.min()} to {faces.max()}"
        )


def _visible_faces(
    points: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "F 3"],
    width: int,
    height: int,
    cull_backfaces: bool,
) -> _Faces:
    """The faces whose box holds a pixel's centre."""
    a, b, c = (points.take(triangles[:, k], axis=0) for k in range(3))
    edge, other = b - a, c - a
    # Twice the signed area on the screen: negative when the outer side looks at the viewer (NaN
    # compares false).
    area = edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0]
    index = np.flatnonzero((area < 0) if cull_backfaces else (np.abs(area) > 0))
    a, b, c, area = a[index], b[index], c[index], area[index]
    limit = np.array([width, height], dtype=np.float64)
    low, high = np.minimum(np.minimum(a, b), c)[:, :2], np.maximum(np.maximum(a, b), c)[:, :2]
    first = np.ceil(np.clip(low, 0, limit))
    size = np.clip(np.floor(np.clip(high, -1, limit - 1)) - first + 1, 0, None)
    held = np.flatnonzero(size[:, 0] * size[:, 1])
    a, b, c, area, first = a[held], b[held], c[held], area[held, None], first[held]
    slope_x = np.stack([b[:, 1] - c[:, 1], c[:, 1] - a[:, 1], a[:, 1] - b[:, 1]], axis=1) / area
    slope_y = np.stack([c[:, 0] - b[:, 0], a[:, 0] - c[:, 0], b[:, 0] - a[:, 0]], axis=1) / area
    step = first - c[:, :2]
    origin = slope_x * step[:, :1] + slope_y * step[:, 1:]
    origin[:, 2] += 1.0
    return _Faces(
        index[held],
        first.astype(np.int64),
        size[held].astype(np.int64),
        origin,
        slope_x,
        slope_y,
        np.stack([a[:, 2], b[:, 2], c[:, 2]], axis=1),
    )


def _groups(faces: _Faces) -> Iterator[_Faces]:
    """Cut the faces into groups of about `_GROUP_PIXELS` pixels of boxes."""
    group = np.cumsum(faces.size[:, 0] * faces.size[:, 1]) // _GROUP_PIXELS
    starts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(group)]
    for start, end in pairwise(starts):
        yield _Faces(*(field[start:end] for field in faces))


def _hits(faces: _Faces, width: int) -> _Hits:
    """Solve, on every line of every face, for the first and last column that it covers."""
    owner = np.repeat(np.arange(len(faces.index)), faces.size[:, 1])
    line = _count_up(faces.size[:, 1])
    at_first = faces.origin[owner] + faces.slope_y[owner] * line[:, None]
    slope = faces.slope_x[owner]
    # w reaches zero where a line enters (slope up) or leaves (slope down) the face.
    reach = np.divide(
        -_EDGE_TOLERANCE - at_first, slope, out=np.zeros_like(slope), where=slope != 0
    )
    start = np.where(slope > 0, reach, 0.0).max(axis=1)
    last = faces.size[owner, 0] - 1
    end = np.minimum(np.where(slope < 0, reach, np.inf).min(axis=1), last)
    outside = ((slope == 0) & (at_first < -_EDGE_TOLERANCE)).any(axis=1)
    start, end = np.ceil(np.minimum(start, last + 1)), np.floor(np.maximum(end, -1.0))
    count = np.where(outside, 0, np.maximum(end - start + 1, 0)).astype(np.int64)

    span = np.repeat(np.arange(len(owner)), count)
    column = _count_up(count) + start.astype(np.int64)[span]
    face = owner[span]
    bary = at_first[span] + slope[span] * column[:, None]
    np.maximum(bary, 0.0, out=bary)
    bary /= bary.sum(axis=1, keepdims=True)
    depth = np.einsum("nk,nk->n", bary, faces.depth[face]).astype(np.float32)
    pixel = (faces.first[face, 1] + line[span]) * width + faces.first[face, 0] + column
    return _Hits(pixel, faces.index[face], depth, bary)


def _count_up(lengths: Int[np.ndarray, "N"]) -> Int[np.ndarray, "M"]:
    """0, 1, .. length - 1 for each of the lengths, one after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - lengths, lengths)
