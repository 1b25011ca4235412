"""MuCo-3DHP: composed pictures with 3D joints, in the COCO form of MeshNet and Pose2Mesh.

METRO published no converter for MuCo; these rules are this project's. One row a picture: the person
nearest to the camera, as Pose2Mesh and I2L-MeshNet choose. Joints are matched as SPIN matches those
of MPI-INF-3DHP (of which the pictures are composed), all with confidence 1. A SMPL fit is used when
its 14 joints are on average within 50 mm of the annotated ones (METRO's rule for Human3.6M).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metro_ray.bodies.joints import J24
from metro_ray.data.raw.coco_json import CocoJson, Fields, read_coco_json
from metro_ray.data.raw.files import ImageFolder, Images, numbers, read_json
from metro_ray.data.raw.raw_dataset import Entries, RawDataset, Skipped, Targets, label_record
from metro_ray.data.raw.smpl_labels import (
    EMPTY,
    MAX_FIT_ERROR_MM,
    NUM_JOINTS,
    SmplLabels,
    bounded_betas,
)
from metro_ray.data.storage import as_path
from metro_ray.geometry.boxes import box_from_rectangle

MUCO_JOINTS = (
    "Head_top", "Thorax", "R_Shoulder", "R_Elbow", "R_Wrist", "L_Shoulder", "L_Elbow", "L_Wrist",
    "R_Hip", "R_Knee", "R_Ankle", "L_Hip", "L_Knee", "L_Ankle", "Pelvis", "Spine", "Head",
    "R_Hand", "L_Hand", "R_Toe", "L_Toe",
)  # fmt: skip
_ROOT = MUCO_JOINTS.index("Pelvis")
_RENAMED = {"Head_top": "Head", "Thorax": "Neck", "Head": "Jaw"}
"""MPI-INF-3DHP's names of what METRO's joint set calls otherwise; SPIN's table."""
_SHARED = tuple(
    (J24.index(_RENAMED.get(name, name)), place)
    for place, name in enumerate(MUCO_JOINTS)
    if _RENAMED.get(name, name) in J24.names
)
_HOW = "MuCo-3DHP in COCO form and its SMPL fits (smpl_param.json): follow the README of \
https://github.com/mks0601/I2L-MeshNet_RELEASE; the data set itself is at \
https://vcai.mpi-inf.mpg.de/projects/SingleShotMultiPerson"


class _People(NamedTuple):
    ids: Int[np.ndarray, " N"]
    boxes: Float[np.ndarray, "N 4"]
    pixels: Float[np.ndarray, "N 21 2"]
    joints: Float[np.ndarray, "N 21 3"]
    """Camera frame, millimetres."""


class _Fits(NamedTuple):
    rows: dict[int, int]
    pose: Float[np.ndarray, "F 72"]
    betas: Float[np.ndarray, "F 10"]


class Muco(RawDataset):
    """Rows of MuCo-3DHP, one a picture."""

    def __init__(
        self,
        name: str,
        images: ImageFolder,
        entries: Entries,
        people: _People,
        fits: tuple[_Fits, SmplLabels],
    ) -> None:
        super().__init__("muco", name, images, entries)
        self._people = people
        self._fits = fits

    def _label(self, row_id: int) -> dict[str, Any]:
        people = self._people
        box = box_from_rectangle(*people.boxes[row_id])
        keypoints, joints = np.zeros((1, NUM_JOINTS, 3)), np.zeros((1, NUM_JOINTS, 4))
        for j24, place in _SHARED:
            keypoints[0, j24] = (*people.pixels[row_id, place], 1.0)
            joints[0, j24] = (*people.joints[row_id, place] / 1000.0, 1.0)
        targets = Targets(keypoints, joints)
        fits, smpl = self._fits
        fit = fits.rows.get(int(people.ids[row_id]))
        if fit is not None:
            pose, betas = fits.pose[fit], bounded_betas(fits.betas[fit])
            fitted = smpl.joints(pose, betas)
            if smpl.fit_error_mm(fitted, joints[0, :, :3]) <= MAX_FIT_ERROR_MM:
                targets = targets._replace(pose=pose, betas=betas)
        return label_record(box.center, box.scale, targets, EMPTY)

    def _remarks(self) -> str:
        fits, _ = self._fits
        count = sum(int(number) in fits.rows for number in self._people.ids)
        return f"SMPL fits for {count} rows, used where they are within {MAX_FIT_ERROR_MM:g} mm"


def open_muco(
    folder: str | Path,
    split: str,
    *,
    images: Images = "original",
    assets_root: str | Path | None = None,
) -> Muco:
    """Open MuCo-3DHP.

    Args:
        folder: with `MuCo-3DHP.json`, `smpl_param.json` and the pictures.
        split: train.
        images: the files' bytes or METRO's.
        assets_root: folder of the SMPL files.
    """
    root = as_path(folder)
    smpl = SmplLabels(assets_root)
    pictures = ImageFolder(root, images, _HOW)
    entries, people = _read_people(read_coco_json(root / "MuCo-3DHP.json", _HOW))
    fits = _read_fits(root / "smpl_param.json", people)
    return Muco(f"muco {split} in {root}", pictures, entries, people, (fits, smpl))


def _read_people(database: CocoJson) -> tuple[Entries, _People]:
    of_image: dict[int, list[tuple[float, int, dict[str, Any]]]] = defaultdict(list)
    skipped, files, rows = Skipped(), [], []
    for number, annotation, image in database.pairs():
        key = f"annotation {annotation['id']}"
        if image is None:
            skipped.add(number, key, "whose image is not in the file")
            continue
        joints = _points(annotation, "keypoints_cam", 3, database)
        of_image[annotation["image_id"]].append((float(joints[_ROOT, 2]), number, annotation))
    for image_id, image in database.images.items():
        people = sorted(of_image.get(image_id, []), key=lambda person: person[:2])
        for _, number, annotation in people[1:]:
            skipped.add(number, f"annotation {annotation['id']}", "of people behind the nearest")
        for _, number, annotation in people[:1]:
            box = numbers(annotation["bbox"], (4,), f"{database.path}: bbox")
            if box[2] * box[3] <= 0:
                skipped.add(number, f"annotation {annotation['id']}", "without a box")
                continue
            files.append(str(image["file_name"]))
            rows.append(
                (
                    int(annotation["id"]),
                    box,
                    _points(annotation, "keypoints_img", 2, database),
                    _points(annotation, "keypoints_cam", 3, database),
                )
            )
    columns = list(zip(*rows, strict=True)) if rows else [()] * 4
    return Entries(files, files, skipped), _People(*(np.array(column) for column in columns))


def _points(annotation: dict[str, Any], field: str, size: int, database: CocoJson) -> np.ndarray:
    where = f"{database.path}: annotation {annotation['id']}"
    shape = (len(MUCO_JOINTS), size)
    return numbers(Fields(annotation, where)[field], shape, f"{where}, {field}")


def _read_fits(path: Path, people: _People) -> _Fits:
    """Fits of the people that are rows; those with NaN (there are some) are none."""
    content = read_json(path, _HOW)
    rows: dict[int, int] = {}
    poses, shapes = [], []
    for number in people.ids.tolist():
        if str(number) not in content:
            continue
        where = f"{path}: annotation {number}"
        record = Fields(content[str(number)], where)
        pose = numbers(record["pose"], (72,), where)
        betas = numbers(record["shape"], (10,), where)
        if np.isfinite(pose).all() and np.isfinite(betas).all():
            rows[number] = len(poses)
            poses.append(pose)
            shapes.append(betas)
    pose = np.array(poses, np.float32).reshape(-1, 72)
    return _Fits(rows, pose, np.array(shapes, np.float32).reshape(-1, 10))
