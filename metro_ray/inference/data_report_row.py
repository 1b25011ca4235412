"""One picture of one row: the photo, the crop as the network sees it, the mesh, augmentations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from metro_ray.data.transform import SampleTransform, decode_image
from metro_ray.inference.data_report_pictures import (
    LabelMeshes,
    label_picture,
    mesh_close_up,
    plain_picture,
)
from metro_ray.inference.render import draw_skeleton

if TYPE_CHECKING:
    from metro_ray.bodies.spec import MeshSpec
    from metro_ray.data.check_row import RowFacts
    from metro_ray.data.sample import Sample

_TILE_PX, _CAPTION_PX, _GAP_PX, _COLUMNS = 448, 30, 12, 4
_BACK, _TEXT = 248, (40, 40, 46)


def write_row_picture(
    path: Path,
    facts: RowFacts,
    meshes: LabelMeshes,
    *,
    augment: int = 0,
    seed: int = 0,
) -> Path | None:
    """Write a PNG of a row; returns its path, or None where the row's image cannot be decoded.

    Args:
        path: of the PNG.
        facts: what was found out about the row.
        meshes: of labels.
        augment: how many augmented crops to show; those of the first epochs of a training with
            this seed.
        seed: of the augmentation.
    """
    tiles = row_tiles(facts, meshes, augment=augment, seed=seed)
    if not tiles:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", _sheet(tiles)[:, :, ::-1])[1]
    path.write_bytes(encoded.tobytes())
    return path


def row_tiles(
    facts: RowFacts, meshes: LabelMeshes, *, augment: int = 0, seed: int = 0
) -> list[tuple[str, UInt8[np.ndarray, "H W 3"]]]:
    """Captions and RGB pictures: as many as can be made of the row."""
    row, image_facts, label_facts = facts.row, facts.image, facts.label
    if row is None or image_facts is None or image_facts.size is None or label_facts is None:
        return []
    image = np.ascontiguousarray(decode_image(row.image_bytes)[:, :, ::-1])
    size = f"{image.shape[1]} x {image.shape[0]}"
    label = label_facts.label
    if label is None or not facts.usable:
        return [(f"photo {size}; the label cannot be used", plain_picture(image, _TILE_PX))]
    spec = label_facts.spec
    tiles = [(f"photo {size}, box and joints", label_picture(image, label, spec, _TILE_PX))]
    seen = SampleTransform(spec, train=False)(row, facts.row_id)
    tiles.append((f"crop {seen.image.shape[2]} px, as the network sees it", _crop(seen)))
    tiles.append(("crop with its 2D joints", _with_joints(seen, spec)))
    result = meshes.place(label, spec)
    if result is not None:
        tiles.append((f"mesh: {spec.name}", mesh_close_up(image, result, _TILE_PX)))
    training = SampleTransform(spec, train=True, seed=seed)
    for epoch in range(augment):
        sample = training(row, facts.row_id, epoch)
        drawn = training.draw(facts.row_id, epoch)
        words = f"epoch {epoch}: {drawn.rotation_deg:+.0f} deg, box x {drawn.scale_factor:.2f}"
        tiles.append((words + (", mirrored" if drawn.flip else ""), _with_joints(sample, spec)))
    return tiles


def _crop(sample: Sample) -> UInt8[np.ndarray, "S S 3"]:
    """The sample's picture with its colour gain, RGB."""
    planes = sample.image.transpose(1, 2, 0) * sample.pixel_gain
    picture = np.rint(np.clip(planes, 0, 255)).astype(np.uint8)
    size = (_TILE_PX, _TILE_PX)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _with_joints(sample: Sample, spec: MeshSpec) -> UInt8[np.ndarray, "S S 3"]:
    picture = _crop(sample)
    if not sample.has_keypoints_2d:
        return picture
    joints = np.column_stack([sample.keypoints_2d[:, :2], sample.joints_3d[:, 2]])
    joints[:, :2] = 0.5 * _TILE_PX * (joints[:, :2] + 1) - 0.5
    return draw_skeleton(picture, joints, spec.label_joints, sample.keypoints_2d[:, 2] > 0)


def _sheet(
    tiles: Sequence[tuple[str, UInt8[np.ndarray, "H W 3"]]],
) -> UInt8[np.ndarray, "H W 3"]:
    """Tiles in lines of four, each with its caption above."""
    columns = min(_COLUMNS, len(tiles))
    lines = -(-len(tiles) // columns)
    wide, high = _TILE_PX + _GAP_PX, _TILE_PX + _CAPTION_PX + _GAP_PX
    sheet = np.full((lines * high + _GAP_PX, columns * wide + _GAP_PX, 3), _BACK, np.uint8)
    for place, (caption, picture) in enumerate(tiles):
        line, column = divmod(place, columns)
        left, top = _GAP_PX + column * wide, _GAP_PX + line * high
        font, at = cv2.FONT_HERSHEY_SIMPLEX, (left, top + _CAPTION_PX - 11)
        cv2.putText(sheet, caption, at, font, 0.52, _TEXT, 1, cv2.LINE_AA)
        top += _CAPTION_PX
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet
