"""Pictures of results: mesh over the photo, side view, joints. Headless, no OpenGL.

Edges are smoothed by rendering at twice the size; shading is Lambert with soft studio lights on
interpolated normals. A mesh whose triangles all run across the whole body, as an untrained network
predicts it, has no surface to shade (and would take minutes to cast): its vertices are drawn as
dots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from metro_ray.bodies.joints import JointSet
from metro_ray.geometry import raycast
from metro_ray.inference.result import MeshResult

Color = tuple[float, float, float]

MESH_COLOR: Color = (0.30, 0.50, 0.84)
"""Albedo of the mesh, linear RGB."""
_PEOPLE_COLORS: tuple[Color, ...] = (
    MESH_COLOR,
    (0.84, 0.42, 0.22),
    (0.32, 0.66, 0.36),
    (0.72, 0.36, 0.66),
    (0.80, 0.66, 0.24),
    (0.26, 0.64, 0.68),
)
_RIGHT, _LEFT, _MIDDLE = (239, 83, 80), (66, 165, 245), (255, 202, 40)
_FINGERS = {
    "Thumb": (239, 83, 80),
    "Index": (255, 167, 38),
    "Middle": (102, 187, 106),
    "Ring": (66, 165, 245),
    "Pinky": (171, 71, 188),
}
_MAX_SUPERSAMPLED_PX = 4_000_000
_FAR = 1 << 24
"""Where OpenCV stops drawing, 1/8 px."""
_TANGLED_COVER = 50.0
"""Squared edges over squared extent above which a mesh is no surface; closed meshes have 1 to 5."""


def _lights() -> raycast.Lights:
    """Warm key from the upper left, cool fill from the right, a rim from behind each side.

    More contrast than `raycast.studio_lights`, which data synthesis uses: here form matters.
    """
    directions = np.array(
        [[-0.55, -0.75, -0.60], [0.85, -0.10, -0.50], [0.90, -0.30, 0.45], [-0.9, 0.2, 0.5]]
    )
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    colors = np.array(
        [[0.98, 0.94, 0.88], [0.15, 0.18, 0.23], [0.30, 0.33, 0.38], [0.16, 0.16, 0.18]]
    )
    return raycast.Lights(directions, colors, np.array([0.05, 0.055, 0.07]))


class _Layer(NamedTuple):
    """A rendered mesh to lay over a picture."""

    rgb: Float32[np.ndarray, "H W 3"]  # display values in [0, 1], multiplied by alpha
    alpha: Float32[np.ndarray, "H W 1"]
    left: int
    top: int


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    result: MeshResult,
    *,
    opacity: float = 0.85,
    color: Color = MESH_COLOR,
) -> UInt8[np.ndarray, "H W 3"]:
    """The shaded mesh over its picture.

    Args:
        image: RGB picture in whose pixels `result.vertices_px` are.
        result: found in it.
        opacity: 1 hides the picture behind the mesh.
        color: albedo of the mesh, linear RGB.
    """
    height, width = image.shape[:2]
    layer = _render(result.vertices_px, result.faces, width, height, color)
    return _composite(image, layer, opacity)


def overlay_people(
    image: UInt8[np.ndarray, "H W 3"],
    results: Sequence[MeshResult],
    depths: Sequence[float | None],
    *,
    colors: Sequence[int] | None = None,
    opacity: float = 0.85,
) -> UInt8[np.ndarray, "H W 3"]:
    """The shaded meshes of all people over their picture, nearer ones over farther ones.

    Args:
        image: RGB picture in whose pixels the results are.
        results: found in it.
        depths: distance of each root from the camera, metres; unknown ones are drawn first.
        colors: number of each person's colour, which people keep through a video; None counts.
        opacity: 1 hides the picture behind the meshes.
    """
    colors = range(len(results)) if colors is None else colors
    order = sorted(
        range(len(results)), key=lambda i: -(math.inf if (z := depths[i]) is None else z)
    )
    for i in order:
        color = _PEOPLE_COLORS[colors[i] % len(_PEOPLE_COLORS)]
        image = overlay(image, results[i], opacity=opacity, color=color)
    return image


def side_view(
    result: MeshResult, size: int = 384, *, color: Color = MESH_COLOR
) -> UInt8[np.ndarray, "S S 3"]:
    """The mesh turned by 90 degrees about the vertical, seen from the right of the picture."""
    x, y, z = result.vertices.T
    turned = np.stack([z, y, -x], axis=1)
    return _composite(_backdrop(size), _render(_fit(turned, size), result.faces, size, size, color))


def error_view(
    result: MeshResult,
    errors_mm: Float32[np.ndarray, " V"],
    most_mm: float,
    size: int = 384,
    *,
    from_side: bool = False,
) -> UInt8[np.ndarray, "S S 3"]:
    """The mesh coloured by the error of each vertex, from the front or, turned, from the side.

    Args:
        result: of the mesh.
        errors_mm: distance of each vertex from the truth, millimetres.
        most_mm: error of the brightest colour; larger ones have the same.
        size: side of the picture.
        from_side: seen from the right of the picture.
    """
    x, y, z = result.vertices.T
    turned = np.stack([z, y, -x] if from_side else [x, y, z], axis=1)
    colors = error_colors(errors_mm / most_mm)
    linear = (colors / 255.0).astype(np.float32) ** np.float32(2.2)
    points = _fit(turned, size)
    return _composite(_backdrop(size), _render(points, result.faces, size, size, linear))


def error_colors(shares: Float32[np.ndarray, " N"]) -> UInt8[np.ndarray, "N 3"]:
    """Colours of 0 (dark blue) to 1 (yellow), RGB; told apart without telling red from green."""
    levels = np.rint(255.0 * np.clip(shares, 0.0, 1.0)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels[:, None], cv2.COLORMAP_VIRIDIS))[:, 0, ::-1]


def draw_joints(
    image: UInt8[np.ndarray, "H W 3"], result: MeshResult
) -> UInt8[np.ndarray, "H W 3"]:
    """Bones and joints over the picture, as `draw_skeleton`."""
    return draw_skeleton(image, result.joints_px, result.joint_set)


def draw_skeleton(
    image: UInt8[np.ndarray, "H W 3"],
    joints_px: Float32[np.ndarray, "J 3"],
    joint_set: JointSet,
    seen: Bool[np.ndarray, " J"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Bones and joints over the picture.

    Bodies: the person's own right side red, left blue, middle yellow; hands: a colour a finger.

    Args:
        image: RGB.
        joints_px: pixels and depth; what is nearer is drawn over what is farther.
        joint_set: names and bones.
        seen: joints to draw; all when left out.
    """
    canvas = image.copy()
    thick = max(2, round(min(image.shape[:2]) / 130))
    sub_pixel = 3  # OpenCV takes coordinates in 1/8 px
    shown = np.ones(len(joint_set), bool) if seen is None else seen
    fixed = np.clip(joints_px[:, :2] * (1 << sub_pixel), -_FAR, _FAR)
    pixels = [(x, y) for x, y in np.rint(fixed).astype(int).tolist()]

    bones = sorted(joint_set.bones, key=lambda bone: -joints_px[list(bone), 2].mean())
    bones = [(a, b) for a, b in bones if shown[a] and shown[b]]
    for width, dark in ((thick + 2, True), (thick, False)):
        for a, b in bones:
            shade = (25, 25, 30) if dark else _bone_color(joint_set, a, b)
            cv2.line(canvas, pixels[a], pixels[b], shade, width, cv2.LINE_AA, sub_pixel)
    for joint in np.flatnonzero(shown).tolist():
        radius = (thick + 1) << sub_pixel
        cv2.circle(canvas, pixels[joint], radius, (25, 25, 30), -1, cv2.LINE_AA, sub_pixel)
        inner = thick << sub_pixel
        cv2.circle(canvas, pixels[joint], inner, (250, 250, 250), -1, cv2.LINE_AA, sub_pixel)
    return canvas


def _bone_color(joint_set: JointSet, a: int, b: int) -> tuple[int, int, int]:
    names = (joint_set.names[a], joint_set.names[b])
    for finger, color in _FINGERS.items():
        if names[1].startswith(finger):
            return color
    if all(name.startswith("R_") for name in names):
        return _RIGHT
    if all(name.startswith("L_") for name in names):
        return _LEFT
    return _MIDDLE


def _render(
    vertices_px: Float32[np.ndarray, "V 3"],
    faces: Int32[np.ndarray, "F 3"],
    width: int,
    height: int,
    color: Color | Float32[np.ndarray, "V 3"],
) -> _Layer:
    """Shade the part of the mesh inside a width x height picture; one colour, or one a vertex."""
    low = np.floor(np.clip(vertices_px[:, :2].min(axis=0) - 1, 0, (width, height))).astype(int)
    high = np.ceil(np.clip(vertices_px[:, :2].max(axis=0) + 2, 0, (width, height))).astype(int)
    columns, lines = np.maximum(high - low, 0).tolist()
    if columns * lines == 0:
        return _Layer(np.zeros((0, 0, 3), np.float32), np.zeros((0, 0, 1), np.float32), 0, 0)
    if is_tangled(vertices_px, faces):
        return _dots(vertices_px - (*low, 0), columns, lines, color, low)
    factor = 2 if 4 * columns * lines <= _MAX_SUPERSAMPLED_PX else 1
    points = vertices_px.astype(np.float64)
    points[:, :2] = (points[:, :2] - low + 0.5) * factor - 0.5
    points[:, 2] *= factor
    seen = raycast.render(points, faces, columns * factor, lines * factor)
    normals = raycast.interpolate(seen, faces, raycast.vertex_normals(points, faces))
    albedo = np.array(color, np.float32)
    if albedo.ndim == 2:
        albedo = raycast.interpolate(seen, faces, albedo)
    light = raycast.shade(normals, albedo, _lights(), two_sided=True)
    covered = (seen.face_index >= 0)[..., None].astype(np.float32)
    rgba = np.concatenate([_to_display(light) * covered, covered], axis=2)
    rgba = cv2.resize(rgba, (columns, lines), interpolation=cv2.INTER_AREA)
    return _Layer(rgba[..., :3], rgba[..., 3:], int(low[0]), int(low[1]))


def is_tangled(vertices: Float32[np.ndarray, "V 3"], faces: Int32[np.ndarray, "F 3"]) -> bool:
    """Whether a mesh has no surface, as an untrained network predicts it."""
    edges = np.linalg.norm(vertices[faces[:, 0]] - vertices[faces[:, 1]], axis=1)
    extent = float(np.ptp(vertices, axis=0).max())
    return float(np.square(edges.astype(np.float64)).sum()) > _TANGLED_COVER * extent**2


def _dots(
    vertices_px: Float32[np.ndarray, "V 3"],
    columns: int,
    lines: int,
    color: Color | Float32[np.ndarray, "V 3"],
    corner: Int32[np.ndarray, " 2"],
) -> _Layer:
    """One pixel a vertex."""
    rgba = np.zeros((lines, columns, 4), np.float32)
    x, y = np.rint(vertices_px[:, :2]).astype(int).T
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < lines)
    shade = np.broadcast_to(_to_display(np.array(color, np.float32)), (len(x), 3))
    rgba[y[inside], x[inside], :3] = shade[inside]
    rgba[y[inside], x[inside], 3] = 1.0
    return _Layer(rgba[..., :3], rgba[..., 3:], int(corner[0]), int(corner[1]))


def _composite(
    image: UInt8[np.ndarray, "H W 3"], layer: _Layer, opacity: float = 1.0
) -> UInt8[np.ndarray, "H W 3"]:
    out = image.copy()
    lines, columns = layer.alpha.shape[:2]
    part = out[layer.top : layer.top + lines, layer.left : layer.left + columns]
    mixed = part * (1.0 - opacity * layer.alpha) + 255.0 * opacity * layer.rgb
    part[...] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return out


def _to_display(linear: Float32[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W 3"]:
    """Linear light to display values (gamma 2.2)."""
    return np.clip(linear, 0.0, 1.0) ** np.float32(1 / 2.2)


def _fit(vertices: Float32[np.ndarray, "V 3"], size: int) -> Float32[np.ndarray, "V 3"]:
    """Scale and move a mesh so that it fills the middle 86 % of a square picture."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    extent = max(float((high - low)[:2].max()), 1e-6)
    middle = np.array([(size - 1) / 2, (size - 1) / 2, 0.0], np.float32)
    return (vertices - (low + high) / 2) * (0.86 * size / extent) + middle


def _backdrop(size: int) -> UInt8[np.ndarray, "S S 3"]:
    """A plain studio wall, a little darker towards the floor."""
    shade = np.linspace(242, 214, size)[:, None, None] + np.array([0.0, 0.5, 2.5])
    return np.rint(np.broadcast_to(shade, (size, size, 3))).astype(np.uint8)
