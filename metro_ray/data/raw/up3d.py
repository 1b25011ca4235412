"""UP-3D: photos with SMPL fits, as published, with METRO's label rules.

2D joints are the given 14 (LSP order, the first 14 of the 24); the box is that of the rendered
fit; 3D joints are those of the fit's mesh. Joint 13 (LSP's head top) is annotated, joint 18 (Head),
which is trained on, is not.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from metro_ray.bodies.unpickle import read_pickle
from metro_ray.data.raw.coco_json import Fields
from metro_ray.data.raw.files import ImageFolder, Images, numbers, read_file, require
from metro_ray.data.raw.raw_dataset import Entries, RawDataset, Skipped, label_record
from metro_ray.data.raw.smpl_labels import EMPTY, NUM_JOINTS, SmplLabels, fitted_targets
from metro_ray.data.storage import as_path
from metro_ray.errors import AssetError, DataError
from metro_ray.geometry.boxes import Box, box_from_rectangle

_HOW = "Download up-3d.zip from https://files.is.tuebingen.mpg.de/classner/up/"
_ENDING = "_image.png"
_NUM_LSP = 14


class Up3d(RawDataset):
    """Rows of UP-3D; labels lie in three files a row, read with the row."""

    def __init__(self, name: str, images: ImageFolder, entries: Entries, smpl: SmplLabels) -> None:
        super().__init__("up3d", name, images, entries)
        self._smpl = smpl

    def _label(self, row_id: int) -> dict[str, Any]:
        base = self.key(row_id).removesuffix(_ENDING)
        folder = self._images.folder
        pose, betas = _read_fit(folder / f"{base}_body.pkl")
        box = _read_box(folder / f"{base}_render_light.png")
        targets = fitted_targets(self._smpl, pose, betas)
        targets = targets._replace(keypoints_2d=_read_joints(folder / f"{base}_joints.npy"))
        return label_record(box.center, box.scale, targets, EMPTY)


def open_up3d(
    folder: str | Path,
    split: str,
    *,
    images: Images = "original",
    assets_root: str | Path | None = None,
) -> Up3d:
    """Open UP-3D.

    Args:
        folder: of up-3d.zip, unpacked.
        split: which list of pictures: `<split>.txt`.
        images: the files' bytes (PNG) or METRO's (JPEG).
        assets_root: folder of the SMPL files.
    """
    root = as_path(folder)
    smpl = SmplLabels(assets_root)
    pictures = ImageFolder(root, images, _HOW)
    path = root / f"{split}.txt"
    keys = []
    lines = read_file(path, _HOW).decode("utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        key = line.strip().removeprefix("/")
        if not key.endswith(_ENDING):
            raise DataError(f"{path}: line {number}: expected /<number>{_ENDING}, got {line!r}")
        keys.append(key)
    return Up3d(f"up3d {split} in {root}", pictures, Entries(keys, keys, Skipped()), smpl)


def _read_joints(path: Path) -> Float[np.ndarray, "1 24 3"]:
    try:
        content = np.load(io.BytesIO(read_file(path, _HOW)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    keypoints = np.zeros((1, NUM_JOINTS, 3))
    keypoints[0, :_NUM_LSP] = numbers(content, (3, _NUM_LSP), str(path)).T
    return keypoints


def _read_box(path: Path) -> Box:
    data = np.frombuffer(read_file(path, _HOW), np.uint8)
    image: UInt8[np.ndarray, "H W C"] | None = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3:
        raise DataError(f"{path} is no colour PNG")
    rows, columns = np.where(image.min(axis=2) < 255)
    if not len(rows):
        raise DataError(f"{path} is white all over: it shows no body to take the box from")
    left, top = int(columns.min()), int(rows.min())
    width, height = int(columns.max()) + 1 - left, int(rows.max()) + 1 - top
    return box_from_rectangle(left, top, width, height)


def _read_fit(path: Path) -> tuple[Float[np.ndarray, " 72"], Float[np.ndarray, " 10"]]:
    try:
        record = Fields(read_pickle(require(path, _HOW)), str(path))
    except AssetError as error:
        raise DataError(str(error)) from error
    pose = numbers(record["pose"], (72,), f"{path}: pose")
    return pose, numbers(record["betas"], (10,), f"{path}: betas")
