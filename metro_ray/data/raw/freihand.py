"""FreiHAND: as published, or through Pose2Mesh's JSON files as METRO's converter reads it.

Every row has the box (centre 112, 112, scale 0.9) and the file name as its key. 3D joints are
relative to the wrist, in metres; 2D joints are their projection. What METRO's test rows hold
instead of labels (pose and betas of ones with has_smpl 1) comes only with the layout `pose2mesh`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from metro_ray.data.raw.coco_json import Fields, read_coco_json
from metro_ray.data.raw.files import ImageFolder, Images, numbers, project, read_json
from metro_ray.data.raw.raw_dataset import (
    Entries,
    RawDataset,
    Skipped,
    Targets,
    empty_targets,
    label_record,
)
from metro_ray.data.storage import as_path, exists
from metro_ray.errors import ConfigError, DataError

CENTER, SCALE = (112.0, 112.0), 0.9
"""METRO's box for every row, from which the mean of the crop sizes tried in testing comes."""
VERSIONS = ("gs", "hom", "sample", "auto")
"""FreiHAND's four pictures of a sample: green screen, and three kinds of new background."""
_JOINTS, _POSE = 21, 48
_EMPTY = empty_targets(_JOINTS, _POSE, nested=False)

_OFFICIAL = "Download FreiHAND_pub_v2.zip (and FreiHAND_pub_v2_eval.zip for test labels) from \
https://lmb.informatik.uni-freiburg.de/projects/freihand/"
_POSE2MESH = "It is one of Pose2Mesh's FreiHAND files: follow the README of \
https://github.com/hongsukchoi/Pose2Mesh_RELEASE"
_FILES = {"train": ("train", "train"), "test": ("eval", "test")}
_FOLDERS = {"train": "training", "test": "evaluation"}


class _Labels(NamedTuple):
    """Labels of all samples; NaN rows have none."""

    xyz: Float[np.ndarray, "N 21 3"] | None
    """Metres, camera frame."""
    focal: Float[np.ndarray, "N 2"]
    princpt: Float[np.ndarray, "N 2"]
    pose: Float[np.ndarray, "N 48"] | None
    betas: Float[np.ndarray, "N 10"] | None
    detected: list[Any] | None
    """HRNet's 2D joints, which METRO's labels carry and nothing uses."""


class FreiHand(RawDataset):
    """Rows of FreiHAND; row k shows sample k modulo the number of samples."""

    def __init__(self, name: str, images: ImageFolder, entries: Entries, labels: _Labels) -> None:
        super().__init__("freihand", name, images, entries)
        self._labels = labels

    def _label(self, row_id: int) -> dict[str, Any]:
        labels = self._labels
        sample = row_id % len(labels.focal)
        targets = Targets()
        if labels.xyz is not None:
            xyz = labels.xyz[sample]
            keypoints, joints = np.ones((_JOINTS, 3)), np.ones((_JOINTS, 4))
            keypoints[:, :2] = project(xyz, labels.focal[sample], labels.princpt[sample])
            joints[:, :3] = xyz - xyz[:1]
            targets = targets._replace(keypoints_2d=keypoints, joints_3d=joints)
        if labels.pose is not None and labels.betas is not None:
            targets = targets._replace(pose=labels.pose[sample], betas=labels.betas[sample])
        record = label_record(CENTER, SCALE, targets, _EMPTY)
        if labels.detected is not None:
            record |= {"hrnet_2d_joints": labels.detected[sample], "has_hrnet_2d_joints": 1}
        return record


def open_freihand(
    folder: str | Path,
    split: str,
    *,
    images: Images = "original",
    layout: Literal["auto", "official", "pose2mesh"] = "auto",
    annotations: str | Path | None = None,
    versions: tuple[str, ...] = VERSIONS,
) -> FreiHand:
    """Open FreiHAND.

    Args:
        folder: of FreiHAND_pub_v2.
        split: train or test.
        images: the files' bytes or METRO's.
        layout: which annotations; auto takes Pose2Mesh's where they are.
        annotations: folder of Pose2Mesh's files; `pose2mesh_data` in `folder` when left out.
        versions: which pictures of the training samples (layout `official`).
    """
    root = as_path(folder)
    if layout not in ("auto", "official", "pose2mesh"):
        raise ConfigError(f"layout must be auto, official or pose2mesh, got {layout!r}")
    extra = root / "pose2mesh_data" if annotations is None else as_path(annotations)
    coco = extra / f"freihand_{_FILES[split][0]}_coco.json"
    if layout == "auto":
        layout = "pose2mesh" if annotations is not None or exists(coco) else "official"
    pictures = ImageFolder(root, images, _OFFICIAL)
    name = f"freihand {split} ({layout}) in {root}"
    if layout == "pose2mesh":
        return FreiHand(name, pictures, *_read_pose2mesh(coco, extra, split))
    return FreiHand(name, pictures, *_read_official(root, split, versions))


def _read_pose2mesh(coco: Path, folder: Path, split: str) -> tuple[Entries, _Labels]:
    """METRO's rows: one per annotation, in the order of the file, where HRNet's record fits."""
    short, long = _FILES[split]
    train = split == "train"
    database = read_coco_json(coco, _POSE2MESH)
    data_path = folder / f"freihand_{short}_data.json"
    data = read_json(data_path, _POSE2MESH)
    names = [folder / f"hrnet_output_on_{infix}{long}set.json" for infix in ("hand_", "")]
    detected = read_json(next((path for path in names if exists(path)), names[0]), _POSE2MESH)
    skipped, kept = Skipped(), []
    for number, annotation, image in database.pairs():
        reason = _unusable(number, annotation, image, data, detected)
        if reason:
            skipped.add(number, f"annotation {annotation['id']}", reason)
        else:
            assert image is not None
            record = Fields(data[str(image["db_idx"])], f"{data_path}: entry {image['db_idx']}")
            kept.append((image["file_name"], record, detected[number]["keypoints"]))
    files = [file for file, _, _ in kept]
    cameras = [record.record("cam_param") for _, record, _ in kept]
    manos = [record.record("mano_param") for _, record, _ in kept] if train else []
    count = len(kept)
    where = str(data_path)
    labels = _Labels(
        xyz=_stack([record["joint_3d"] for _, record, _ in kept], (_JOINTS, 3), where)
        if train
        else None,
        focal=_stack([camera["focal"] for camera in cameras], (2,), where),
        princpt=_stack([camera["princpt"] for camera in cameras], (2,), where),
        pose=_stack([mano["pose"] for mano in manos], (_POSE,), where)
        if train
        else np.ones((count, _POSE)),
        betas=_stack([mano["shape"] for mano in manos], (10,), where)
        if train
        else np.ones((count, 10)),
        detected=[keypoints for _, _, keypoints in kept],
    )
    return Entries([file.split("/")[-1] for file in files], files, skipped), labels


def _unusable(
    number: int,
    annotation: dict[str, Any],
    image: dict[str, Any] | None,
    data: dict[str, Any],
    detected: list[dict[str, Any]],
) -> str:
    """Why METRO leaves an annotation out (or dies of it); empty when it is used."""
    if image is None:
        return "whose image is not in the file"
    if number >= len(detected):
        return "without a record of HRNet"
    if detected[number]["image_id"] != annotation["image_id"]:
        return "whose record of HRNet is of another image"
    if str(image["db_idx"]) not in data:
        return "without an entry in the data file"
    _, _, width, height = annotation["bbox"]
    if width * height <= 0 or width < 1 or height < 1:
        return "with a box of less than a pixel"
    return ""


def _read_official(root: Path, split: str, versions: tuple[str, ...]) -> tuple[Entries, _Labels]:
    unknown = [version for version in versions if version not in VERSIONS]
    if unknown or not versions:
        raise ConfigError(f"versions must be some of {VERSIONS}, got {tuple(versions)}")
    part = _FOLDERS[split]
    intrinsics_path = root / f"{part}_K.json"
    matrices = _stack(read_json(intrinsics_path, _OFFICIAL), (3, 3), str(intrinsics_path))
    count = len(matrices)
    xyz = _optional(root / f"{part}_xyz.json", (_JOINTS, 3), count, split)
    mano = _optional(root / f"{part}_mano.json", (61,), count, split)
    order = [VERSIONS.index(version) for version in versions] if split == "train" else [0]
    names = [f"{version * count + sample:08d}.jpg" for version in order for sample in range(count)]
    files = [f"{part}/rgb/{name}" for name in names]
    for first in files[::count]:
        if not exists(root / first):
            raise DataError(
                f"{root / first} does not exist. {_OFFICIAL}; version 1 of FreiHAND has only "
                "versions=('gs',)"
            )
    labels = _Labels(
        xyz=xyz,
        focal=matrices[:, [0, 1], [0, 1]],
        princpt=matrices[:, :2, 2],
        pose=None if mano is None else mano[:, :_POSE],
        betas=None if mano is None else mano[:, _POSE : _POSE + 10],
        detected=None,
    )
    return Entries(names, files, Skipped()), labels


def _optional(
    path: Path, shape: tuple[int, ...], count: int, split: str
) -> Float[np.ndarray, "N ..."] | None:
    """Labels that the test split may lack."""
    if split == "test" and not exists(path):
        return None
    values = _stack(read_json(path, _OFFICIAL), shape, str(path))
    if len(values) != count:
        raise DataError(f"{path} has {len(values)} samples, expected {count} as in the K file")
    return values


def _stack(values: list[Any], shape: tuple[int, ...], where: str) -> np.ndarray:
    rows = [numbers(value, shape, f"{where}: entry {row}") for row, value in enumerate(values)]
    return np.stack(rows) if rows else np.zeros((0, *shape))
