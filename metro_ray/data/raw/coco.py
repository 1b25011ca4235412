"""COCO: 2D keypoints of people in photos, with SMPL fits where a file of them is given.

METRO published no converter for COCO; these rules are this project's. One row an annotation that is
no crowd, has a box and at least `min_keypoints` keypoints. The 17 keypoints go to the joints of the
same name, confidence 1 where they are annotated (visible or not), 0 elsewhere. A fit gives pose,
betas and the 3D joints of its mesh, as in UP-3D.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metro_ray.bodies.joints import J24
from metro_ray.data.raw.coco_fits import MAX_KEYPOINT_ERROR, Fits, keypoint_error, read_fits
from metro_ray.data.raw.coco_json import read_coco_json
from metro_ray.data.raw.files import ImageFolder, Images, numbers
from metro_ray.data.raw.raw_dataset import Entries, RawDataset, Skipped, Targets, label_record
from metro_ray.data.raw.smpl_labels import (
    EMPTY,
    NUM_JOINTS,
    SmplLabels,
    bounded_betas,
    fitted_targets,
)
from metro_ray.data.raw.spin_npz import SpinDataset, open_spin_npz
from metro_ray.data.storage import as_path, exists
from metro_ray.geometry.boxes import box_from_rectangle

COCO_KEYPOINTS = (
    "Nose", "L_Eye", "R_Eye", "L_Ear", "R_Ear", "L_Shoulder", "R_Shoulder", "L_Elbow", "R_Elbow",
    "L_Wrist", "R_Wrist", "L_Hip", "R_Hip", "L_Knee", "R_Knee", "L_Ankle", "R_Ankle",
)  # fmt: skip
_TO_J24 = [J24.index(name) for name in COCO_KEYPOINTS]
_HOW = "Download pictures and annotations from https://cocodataset.org/#download"
_FIT_FILES = (
    "eft_fit/COCO2014-All-ver01.json",
    "eft_fit/COCO2014-Part-ver01.json",
    "annotations/coco_smplify_train.json",
)
"""Looked for in this order; the first two fit train2014, the last one train2017."""


class _People(NamedTuple):
    ids: Int[np.ndarray, " N"]
    boxes: Float[np.ndarray, "N 4"]
    keypoints: Float[np.ndarray, "N 17 3"]


class Coco(RawDataset):
    """Rows of COCO, one a person."""

    def __init__(
        self,
        name: str,
        images: ImageFolder,
        entries: Entries,
        people: _People,
        fits: tuple[Fits, SmplLabels, str] | None,
    ) -> None:
        super().__init__("coco", name, images, entries)
        self._people = people
        self._fits = fits

    def _label(self, row_id: int) -> dict[str, Any]:
        people = self._people
        box = box_from_rectangle(*people.boxes[row_id])
        keypoints = np.zeros((1, NUM_JOINTS, 3))
        annotated = people.keypoints[row_id, :, 2] > 0
        keypoints[0, _TO_J24] = people.keypoints[row_id] * annotated[:, None]
        keypoints[0, _TO_J24, 2] = annotated
        targets = self._fitted(row_id, keypoints[0], float(people.boxes[row_id, 2:].max()))
        targets = targets._replace(keypoints_2d=keypoints)
        return label_record(box.center, box.scale, targets, EMPTY)

    def _fitted(self, row_id: int, keypoints: np.ndarray, side_px: float) -> Targets:
        if self._fits is None:
            return Targets()
        fits, smpl, _ = self._fits
        fit = fits.get(int(self._people.ids[row_id]))
        if fit is None:
            return Targets()
        targets = fitted_targets(smpl, fit.pose, bounded_betas(fit.betas))
        assert targets.joints_3d is not None
        if fit.camera is not None:
            error = keypoint_error(targets.joints_3d[0, :, :3], fit.camera, keypoints)
            if error > MAX_KEYPOINT_ERROR * side_px:
                return Targets()
        return targets

    def _remarks(self) -> str:
        if self._fits is None:
            return "no SMPL fits"
        fits, _, path = self._fits
        count = sum(fits.get(int(number)) is not None for number in self._people.ids)
        return f"SMPL fits of {path} for {count} rows"


def open_coco(
    folder: str | Path,
    split: str,
    *,
    images: Images = "original",
    layout: Literal["auto", "json", "spin"] = "auto",
    fits: str | Path | None = "auto",
    min_keypoints: int = 6,
    assets_root: str | Path | None = None,
) -> Coco | SpinDataset:
    """Open COCO.

    Args:
        folder: with `annotations` and the folder of pictures of the split.
        split: train2014, val2014, train2017 or val2017.
        images: the files' bytes or METRO's.
        layout: COCO's JSON or SPIN's `coco_2014_train.npz`; auto takes the JSON where it is.
        fits: file of SMPL fits, None for none; auto looks for EFT's (2014) or Pose2Mesh's (2017).
        min_keypoints: annotated keypoints that a person must have.
        assets_root: folder of the SMPL files (with fits).
    """
    root = as_path(folder)
    annotations = root / "annotations" / f"person_keypoints_{split}.json"
    spin = root / f"coco_{split[-4:]}_{split[:-4]}.npz"
    if layout == "spin" or (layout == "auto" and not exists(annotations) and exists(spin)):
        return open_spin_npz("coco", spin, ImageFolder(root, images, _HOW), assets_root)
    pictures = ImageFolder(root, images, _HOW)
    entries, people = _read_people(annotations, split, min_keypoints)
    found = _find_fits(root, split) if fits == "auto" else fits
    with_fits = None
    if found is not None:
        path = as_path(found)
        with_fits = (read_fits(path), SmplLabels(assets_root), str(path))
    return Coco(f"coco {split} in {root}", pictures, entries, people, with_fits)


def _find_fits(root: Path, split: str) -> Path | None:
    names = {"train2014": _FIT_FILES[:2], "train2017": _FIT_FILES[2:]}.get(split, ())
    return next((root / name for name in names if exists(root / name)), None)


def _read_people(path: Path, split: str, min_keypoints: int) -> tuple[Entries, _People]:
    skipped, files, rows = Skipped(), [], []
    for number, annotation, image in read_coco_json(path, _HOW).pairs():
        key = f"annotation {annotation['id']}"
        where = f"{path}: {key}"
        if image is None:
            skipped.add(number, key, "whose image is not in the file")
            continue
        keypoints = numbers(annotation.get("keypoints", ()) or np.zeros(51), (17, 3), where)
        box = numbers(annotation["bbox"], (4,), where)
        count = int((keypoints[:, 2] > 0).sum())
        if annotation.get("iscrowd"):
            skipped.add(number, key, "of crowds")
        elif count < min_keypoints or count == 0:
            skipped.add(number, key, f"with fewer than {max(min_keypoints, 1)} keypoints")
        elif box[2] * box[3] <= 0:
            skipped.add(number, key, "without a box")
        else:
            files.append(f"{split}/{image['file_name']}")
            rows.append((int(annotation["id"]), box, keypoints))
    ids, boxes, keypoints = zip(*rows, strict=True) if rows else ((), (), ())
    people = _People(np.array(ids, np.int64), np.array(boxes), np.array(keypoints))
    keys = [f"{file}#{number}" for file, number in zip(files, ids, strict=True)]
    return Entries(keys, files, skipped), people
