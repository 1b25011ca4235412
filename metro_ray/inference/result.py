"""MeshResult: one predicted mesh in metres and where it lies in its picture."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from metro_ray.bodies.joints import JointSet
from metro_ray.geometry.boxes import Window

_OUTSIDE_GREY = 226


class AttentionMaps(NamedTuple):
    """What the last transformer encoder did with one picture (paper section 4.4, figure 6)."""

    attentions: Float32[np.ndarray, "L heads N N"]
    """Weight of each token (last axis) in the update of each token; rows sum to 1."""
    hidden_states: Float32[np.ndarray, "L+1 N H"]
    """Embedded tokens, then the output of each layer."""


class MeshResult(NamedTuple):
    """A predicted person or hand.

    Metric fields are in a camera-like frame: x right, y down, z away from the camera, origin at the
    root joint. Pixel fields are in the frame of the whole picture, a pixel's centre having integer
    coordinates; their third column is depth to the same scale, smaller is nearer.
    """

    vertices: Float32[np.ndarray, "V 3"]
    """Full mesh, metres."""
    joints: Float32[np.ndarray, "J 3"]
    """Evaluation joints regressed from the mesh, metres."""
    camera: Float32[np.ndarray, " 3"]
    """(s, tx, ty): `vertices` appear at s * (xy + t) in crop coordinates, [-1, 1] over `window`."""
    window: Window
    """The part of the picture that the network saw."""
    vertices_px: Float32[np.ndarray, "V 3"]
    joints_px: Float32[np.ndarray, "J 3"]
    faces: Int32[np.ndarray, "F 3"]
    """Triangles of `vertices`, counter-clockwise from outside; shared by all results of a body
    (mirrored hands have their own)."""
    joint_set: JointSet
    """Names and bones of `joints`."""
    attention: AttentionMaps | None = None
    """When asked for; its N tokens are the network's joints, then the coarse vertices."""


class MeshArrays(NamedTuple):
    """What a network says about a batch of crops, before it is placed in pictures."""

    vertices: Float32[np.ndarray, "B V 3"]
    """Metres, origin at the root."""
    joints: Float32[np.ndarray, "B J 3"]
    cameras: Float32[np.ndarray, "B 3"]
    """(s, tx, ty) of `vertices`, see `MeshResult.camera`."""

    def result(
        self, number: int, window: Window, faces: Int32[np.ndarray, "F 3"], joint_set: JointSet
    ) -> MeshResult:
        """One of the batch, placed in the picture that its crop was cut out of.

        Args:
            number: of the crop in the batch.
            window: the part of its picture that the crop shows.
            faces: triangles of the vertices.
            joint_set: of the joints.
        """
        mesh, points, view = self.vertices[number], self.joints[number], self.cameras[number]
        return MeshResult(
            vertices=mesh,
            joints=points,
            camera=view,
            window=window,
            vertices_px=place_in_picture(mesh, view, window),
            joints_px=place_in_picture(points, view, window),
            faces=faces,
            joint_set=joint_set,
        )


def place_in_picture(
    points: Float32[np.ndarray, "N 3"], camera: Float32[np.ndarray, " 3"], window: Window
) -> Float32[np.ndarray, "N 3"]:
    """Pixel coordinates and depth of metric points seen by a weak-perspective camera.

    Args:
        points: metres.
        camera: (s, tx, ty) of these points.
        window: what crop coordinates [-1, 1] span.
    """
    half = 0.5 * np.array([window.width, window.height], np.float64)
    scale = float(camera[0])
    xy = scale * (points[:, :2] + camera[1:]) + 1.0
    corner = np.array([window.left, window.top]) - 0.5
    depth = scale * half[0] * points[:, 2:]
    return np.concatenate([corner + half * xy, depth], axis=1).astype(np.float32)


def mirrored(
    result: MeshResult, width: int, faces: Int32[np.ndarray, "F 3"] | None = None
) -> MeshResult:
    """The result as it is in the left-right mirrored picture.

    Args:
        result: found in a picture; its joints must not be named left and right.
        width: of the picture, pixels.
        faces: the turned triangles where they are at hand, for results to share.
    """
    flip = np.array([-1.0, 1.0, 1.0], np.float32)
    vertices, joints = result.vertices * flip, result.joints * flip
    camera = result.camera * np.array([1.0, -1.0, 1.0], np.float32)
    left, top, right, bottom = result.window
    window = Window(width - right, top, width - left, bottom)
    return result._replace(
        vertices=vertices,
        joints=joints,
        camera=camera,
        window=window,
        vertices_px=place_in_picture(vertices, camera, window),
        joints_px=place_in_picture(joints, camera, window),
        faces=turned(result.faces) if faces is None else faces,
    )


def turned(faces: Int32[np.ndarray, "F 3"]) -> Int32[np.ndarray, "F 3"]:
    """The same triangles seen from their other side."""
    return np.ascontiguousarray(faces[:, ::-1])


def close_up(
    image: UInt8[np.ndarray, "H W 3"], result: MeshResult, size: int, margin: float = 0.1
) -> tuple[UInt8[np.ndarray, "S S 3"], MeshResult]:
    """Cut the square around a result's window out of its picture, and move the result along.

    Args:
        image: the whole picture.
        result: found in it.
        size: side of the cut in its own pixels; the window is scaled to it.
        margin: share of the window's side to add on each side.

    Returns:
        The cut (light grey outside the picture), and the result with pixel fields that fit it.
    """
    window = result.window
    side = round(max(window.width, window.height) * (1 + 2 * margin))
    left = (window.left + window.right - side) // 2
    top = (window.top + window.bottom - side) // 2
    zoom = size / side

    def moved(points: Float32[np.ndarray, "N 3"]) -> Float32[np.ndarray, "N 3"]:
        xy = (points[:, :2] + 0.5 - np.array([left, top])) * zoom - 0.5
        return np.concatenate([xy, points[:, 2:] * zoom], axis=1).astype(np.float32)

    shrinks = side > size
    cut = cv2.resize(
        _cut_square(image, left, top, side),
        (size, size),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
    )
    edges = np.array(
        [window.left - left, window.top - top, window.right - left, window.bottom - top]
    )
    inside = result._replace(
        window=Window(*np.rint(edges * zoom).astype(int).tolist()),
        vertices_px=moved(result.vertices_px),
        joints_px=moved(result.joints_px),
    )
    return np.asarray(cut, np.uint8), inside


def _cut_square(
    image: UInt8[np.ndarray, "H W 3"], left: int, top: int, side: int
) -> UInt8[np.ndarray, "S S 3"]:
    height, width = image.shape[:2]
    cut = np.full((side, side, 3), _OUTSIDE_GREY, np.uint8)
    rows = slice(max(top, 0), max(min(top + side, height), 0))
    columns = slice(max(left, 0), max(min(left + side, width), 0))
    part = image[rows, columns]
    y, x = max(-top, 0), max(-left, 0)
    cut[y : y + part.shape[0], x : x + part.shape[1]] = part
    return cut
