"""A contact sheet of a data set: its first images with box and joints drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from metro_ray.bodies.spec import MeshSpec, get_spec
from metro_ray.data.dataset import open_dataset
from metro_ray.data.labels import parse_label
from metro_ray.data.rows import Row
from metro_ray.data.transform import decode_image

_COLUMNS, _LINES, _TILE_PX = 6, 4, 256
_BONE, _JOINT, _BOX = (60, 200, 255), (255, 255, 255), (255, 180, 60)  # BGR


def write_preview(yaml_path: Path, target: Path, mesh: str) -> None:
    """Write a PNG of up to 24 rows, evenly spread over the data set."""
    spec = get_spec(mesh)
    dataset = open_dataset(yaml_path, spec)
    count = min(len(dataset), _COLUMNS * _LINES)
    lines = -(-count // _COLUMNS)
    sheet = np.full((lines * _TILE_PX, _COLUMNS * _TILE_PX, 3), 40, np.uint8)
    for tile, row_id in enumerate(np.linspace(0, len(dataset) - 1, count).round().astype(int)):
        line, column = divmod(tile, _COLUMNS)
        top, left = line * _TILE_PX, column * _TILE_PX
        sheet[top : top + _TILE_PX, left : left + _TILE_PX] = _tile(dataset.row(int(row_id)), spec)
    partial = target.with_name(f".partial.{target.name}")
    cv2.imwrite(str(partial), sheet)
    partial.replace(target)


def _tile(row: Row, spec: MeshSpec) -> UInt8[np.ndarray, "S S 3"]:
    image = np.ascontiguousarray(decode_image(row.image_bytes))
    label = parse_label(row.label, spec)
    zoom = _TILE_PX / max(image.shape[:2])
    canvas = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    canvas = cv2.copyMakeBorder(
        canvas, 0, _TILE_PX - canvas.shape[0], 0, _TILE_PX - canvas.shape[1], cv2.BORDER_CONSTANT
    )
    center, half = zoom * np.asarray(label.center), zoom * 100.0 * label.scale
    corners = np.rint(np.stack([center - half, center + half])).astype(int).tolist()
    cv2.rectangle(canvas, corners[0], corners[1], _BOX, 1, cv2.LINE_AA)
    points = np.rint(zoom * label.keypoints_2d[:, :2]).astype(int).tolist()
    seen = label.keypoints_2d[:, 2] > 0
    for a, b in spec.label_joints.bones:
        if seen[a] and seen[b]:
            cv2.line(canvas, points[a], points[b], _BONE, 1, cv2.LINE_AA)
    radius = 1 if spec.kind == "body" else 2  # a small face holds eight joints
    for joint, point in enumerate(points):
        if seen[joint]:
            cv2.circle(canvas, point, radius, _JOINT, -1, cv2.LINE_AA)
    return canvas
