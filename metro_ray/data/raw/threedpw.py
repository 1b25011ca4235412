"""3DPW: Pose2Mesh's JSON files as METRO's converter reads them, or 3DPW's own sequence files.

SMPL parameters are in the camera frame; the 24 joints are those of the *neutral* mesh with these
parameters, whatever the gender (METRO's rule), and 2D joints are their projection, all with
confidence 1. Two people in a picture are two rows with the same key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from metro_ray.data.raw.coco_json import Fields, read_coco_json
from metro_ray.data.raw.files import ImageFolder, Images, numbers, project
from metro_ray.data.raw.raw_dataset import Entries, RawDataset, Skipped, label_record
from metro_ray.data.raw.smpl_labels import EMPTY, SmplLabels, fitted_targets
from metro_ray.data.storage import as_path, exists
from metro_ray.data.transform import decode_image
from metro_ray.errors import ConfigError
from metro_ray.geometry.boxes import box_from_rectangle

_OFFICIAL = "Register and download it at https://virtualhumans.mpi-inf.mpg.de/3DPW/evaluation.html"
_POSE2MESH = "It is Pose2Mesh's file: follow the README of \
https://github.com/hongsukchoi/Pose2Mesh_RELEASE (or use layout='official')"


class PeopleOf3dpw(NamedTuple):
    """Annotations of all rows."""

    boxes: Float[np.ndarray, "N 4"]
    """x, y, width, height, pixels."""
    focal: Float[np.ndarray, "N 2"]
    princpt: Float[np.ndarray, "N 2"]
    pose: Float[np.ndarray, "N 72"]
    """Camera frame, float32 as in METRO's labels."""
    betas: Float[np.ndarray, "N 10"]
    trans: Float[np.ndarray, "N 3"]
    """Moves the posed mesh to its place in the camera frame, metres; see `turned_about_origin`."""
    genders: list[str]
    turned_about_origin: Float[np.ndarray, "N 3 3"] | None = None
    """`trans` belongs to a mesh that this camera rotation turned about the origin and not about
    its root, as 3DPW's own files have it; None: about its root."""


class ThreeDpw(RawDataset):
    """Rows of 3DPW, one a person and picture."""

    def __init__(
        self,
        name: str,
        images: ImageFolder,
        entries: Entries,
        people: PeopleOf3dpw,
        smpl: SmplLabels,
    ) -> None:
        super().__init__("3dpw", name, images, entries)
        self._people = people
        self._smpl = smpl

    def _label(self, row_id: int) -> dict[str, Any]:
        people = self._people
        pose, betas = people.pose[row_id], people.betas[row_id]
        targets = fitted_targets(self._smpl, pose, betas)
        assert targets.joints_3d is not None
        moved = targets.joints_3d[0, :, :3].astype(np.float32)
        moved = (moved + self._translation(row_id)).astype(np.float32)
        keypoints = np.ones((len(moved), 3))
        focal, princpt = people.focal[row_id], people.princpt[row_id]
        keypoints[:, :2] = project(moved, focal.astype(np.float32), princpt.astype(np.float32))
        box = box_from_rectangle(*people.boxes[row_id])
        targets = targets._replace(keypoints_2d=keypoints)
        return {
            **label_record(box.center, box.scale, targets, EMPTY),
            "gender": people.genders[row_id],
        }

    def _translation(self, row_id: int) -> Float[np.ndarray, " 3"]:
        people = self._people
        if people.turned_about_origin is None:
            return people.trans[row_id]
        root = self._smpl.joints(people.pose[row_id], people.betas[row_id]).root
        rotation = people.turned_about_origin[row_id]
        return people.trans[row_id] - root + rotation @ root


def open_3dpw(
    folder: str | Path,
    split: str,
    *,
    images: Images = "original",
    layout: Literal["auto", "official", "pose2mesh"] = "auto",
    assets_root: str | Path | None = None,
) -> ThreeDpw:
    """Open 3DPW.

    Args:
        folder: with `imageFiles` and the annotations.
        split: train, validation or test.
        images: the files' bytes or METRO's.
        layout: which annotations; auto takes Pose2Mesh's `3DPW_<split>.json` where it is.
        assets_root: folder of the SMPL files.
    """
    root = as_path(folder)
    if layout not in ("auto", "official", "pose2mesh"):
        raise ConfigError(f"layout must be auto, official or pose2mesh, got {layout!r}")
    annotations = root / f"3DPW_{split}.json"
    if layout == "auto":
        layout = "pose2mesh" if exists(annotations) else "official"
    smpl = SmplLabels(assets_root)
    pictures = ImageFolder(root / "imageFiles", images, _OFFICIAL)
    if layout == "pose2mesh":
        entries, people = _read_pose2mesh(annotations)
    else:
        from metro_ray.data.raw.threedpw_sequences import read_sequences

        entries, people = read_sequences(root, split, pictures, _OFFICIAL)
    return ThreeDpw(f"3dpw {split} ({layout}) in {root}", pictures, entries, people, smpl)


def _read_pose2mesh(path: Path) -> tuple[Entries, PeopleOf3dpw]:
    """METRO's rows: one per annotation, in the order of the file."""
    skipped, names, rows = Skipped(), [], []
    for number, annotation, image in read_coco_json(path, _POSE2MESH).pairs():
        if image is None:
            skipped.add(number, f"annotation {annotation['id']}", "whose image is not in the file")
            continue
        where = f"{path}: annotation {annotation['id']}"
        fields, picture = Fields(annotation, where), Fields(image, f"{path}: image {image['id']}")
        camera, smpl = picture.record("cam_param"), fields.record("smpl_param")
        names.append(f"{picture['sequence']}/{picture['file_name']}")
        rows.append(
            (
                numbers(fields["bbox"], (4,), f"{where}, bbox"),
                numbers(camera["focal"], (2,), f"{where}, focal"),
                numbers(camera["princpt"], (2,), f"{where}, princpt"),
                numbers(smpl["pose"], (72,), f"{where}, pose").astype(np.float32),
                numbers(smpl["shape"], (10,), f"{where}, shape").astype(np.float32),
                numbers(smpl["trans"], (3,), f"{where}, trans"),
                str(smpl["gender"]),
            )
        )
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 7
    *arrays, genders = columns
    people = PeopleOf3dpw(*(np.array(array) for array in arrays), genders=list(genders))
    return Entries(names, names, skipped), people


def picture_size(images: ImageFolder, name: str) -> tuple[int, int]:
    """Height and width of a picture, pixels."""
    data, hw = images.read(name)
    if hw is None:
        height, width = decode_image(data).shape[:2]
        return height, width
    return hw
