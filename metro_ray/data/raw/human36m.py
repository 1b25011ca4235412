"""Human3.6M: GraphCMR's npz files, and for training Pose2Mesh's 2D joints and SMPL fits.

METRO's rules. 3D joints, box and key are the npz entry's. Training rows get 2D joints and an SMPL
fit from Pose2Mesh: of sub-actions 1 and 2 the one whose world joints, seen by the camera, are
nearer to the npz joints (sum of absolute differences of 13 joints). The fit counts (has_smpl 1)
when that sum is at most 50 mm and the fit's 14 joints are on average within 50 mm; 2D joints are
taken even where the sub-action does not match. Validation rows have 3D joints only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from metro_ray.bodies.joints import J17, J24
from metro_ray.data.raw.files import ImageFolder, Images, project, read_npz, text_of
from metro_ray.data.raw.human36m_names import ACTIONS, CAMERAS, FrameName, parse_name
from metro_ray.data.raw.human36m_pose2mesh import Camera, World, read_subjects
from metro_ray.data.raw.raw_dataset import Entries, RawDataset, Skipped, Targets, label_record
from metro_ray.data.raw.smpl_labels import (
    EMPTY,
    MAX_FIT_ERROR_MM,
    NUM_JOINTS,
    SmplLabels,
    bounded_betas,
    rotate_root,
)
from metro_ray.data.storage import as_path

MAX_MATCH_ERROR_MM = 50.0
"""Sum over 13 joints and three axes; above it a sub-action is another motion."""
_COMPARED = 13
_SHARED = tuple((J24.index(name), J17.index(name)) for name in J24.names if name in J17.names)
"""The 16 joints that have a name in both sets, as (J24, J17)."""
_GRAPHCMR = "It is GraphCMR's file: make it with datasets/preprocess of \
https://github.com/nkolot/GraphCMR from Human3.6M (register at http://vision.imar.ro/human3.6m)"
_FILES = {"train": "h36m_train_protocol1.npz", "valid": "h36m_valid_protocol2.npz"}


class _Annotations(NamedTuple):
    """The npz entries that are rows."""

    joints: Float[np.ndarray, "N 24 4"]
    center: Float[np.ndarray, "N 2"]
    scale: Float[np.ndarray, " N"]
    names: list[FrameName]


class Human36m(RawDataset):
    """Rows of Human3.6M."""

    def __init__(
        self,
        name: str,
        images: ImageFolder,
        entries: Entries,
        annotations: _Annotations,
        pose2mesh: tuple[World, SmplLabels] | None,
    ) -> None:
        super().__init__("human36m", name, images, entries)
        self._annotations = annotations
        self._pose2mesh = pose2mesh

    def _label(self, row_id: int) -> dict[str, Any]:
        annotations = self._annotations
        joints = annotations.joints[row_id]
        targets = Targets(joints_3d=joints[None])
        if self._pose2mesh is not None:
            world, smpl = self._pose2mesh
            targets = _with_pose2mesh(targets, annotations.names[row_id], world, smpl)
        return label_record(annotations.center[row_id], annotations.scale[row_id], targets, EMPTY)


def _with_pose2mesh(targets: Targets, name: FrameName, world: World, smpl: SmplLabels) -> Targets:
    """Add the 2D joints of the nearest sub-action, and its SMPL fit where it is good enough."""
    assert targets.joints_3d is not None
    joints = targets.joints_3d[0, :, :3]
    camera = world.cameras[name.subject, name.camera]
    seen = {row: camera.see(world.joints[row]) for row in world.rows_of(name)}
    differences = {row: match_error_mm(joints, points) for row, points in seen.items()}
    best = min(differences, key=lambda row: differences[row])
    targets = targets._replace(keypoints_2d=_keypoints(seen[best], camera))
    fit = world.fit_of[best]
    if differences[best] > MAX_MATCH_ERROR_MM or fit < 0:
        return targets
    pose = rotate_root(world.pose[fit], camera.rotation)
    betas = bounded_betas(world.betas[fit])
    if smpl.fit_error_mm(smpl.joints(pose, betas), joints) > MAX_FIT_ERROR_MM:
        return targets
    return targets._replace(pose=pose, betas=betas)


def match_error_mm(joints: Float[np.ndarray, "24 3"], points: Float[np.ndarray, "17 3"]) -> float:
    """Distance of Pose2Mesh's joints from the npz's: the sum of absolute differences of 13 joints.

    Args:
        joints: of the npz, metres, relative to the pelvis, camera axes.
        points: J17 of Pose2Mesh, camera frame, millimetres.
    """
    relative = np.zeros((NUM_JOINTS, 3))
    for j24, j17 in _SHARED:
        relative[j24] = points[j17] - points[J17.index("Pelvis")]
    return float(np.abs(joints[:_COMPARED] * 1000.0 - relative[:_COMPARED]).sum())


def _keypoints(points: Float[np.ndarray, "17 3"], camera: Camera) -> Float[np.ndarray, "1 24 3"]:
    pixels = project(points, camera.focal, camera.princpt)
    keypoints = np.zeros((1, NUM_JOINTS, 3))
    for j24, j17 in _SHARED:
        keypoints[0, j24] = (*pixels[j17], 1.0)
    return keypoints


def open_human36m(
    folder: str | Path,
    split: str,
    *,
    images: Images = "original",
    annotations: str | Path | None = None,
    assets_root: str | Path | None = None,
) -> Human36m:
    """Open Human3.6M.

    Args:
        folder: with the npz files and what their image names start with (`images/`).
        split: train (protocol 1) or valid (protocol 2).
        images: the files' bytes or METRO's.
        annotations: folder of Pose2Mesh's files; `pose2mesh_data` in `folder` when left out.
        assets_root: folder of the SMPL files (training).
    """
    root = as_path(folder)
    smpl = SmplLabels(assets_root) if split == "train" else None
    arrays = read_npz(root / _FILES[split], _GRAPHCMR, ("imgname", "center", "scale", "S"))
    pictures = ImageFolder(root, images, _GRAPHCMR)
    extra = root / "pose2mesh_data" if annotations is None else as_path(annotations)
    skipped, kept, names = _known_frames(text_of(arrays["imgname"]))
    pose2mesh = None
    if smpl is not None:
        world = read_subjects(extra, names)
        found = [place for place, name in enumerate(names) if world.rows_of(name)]
        for place in sorted(set(range(len(names))) - set(found)):
            reason = "without Pose2Mesh's joints of sub-action 1 or 2"
            skipped.add(int(kept[place]), names[place].file, reason)
        kept, names = kept[found], [names[place] for place in found]
        pose2mesh = (world, smpl)
    rows = _Annotations(
        np.asarray(arrays["S"], np.float64)[kept],
        np.asarray(arrays["center"], np.float64)[kept],
        np.asarray(arrays["scale"], np.float64)[kept],
        names,
    )
    files = [name.file for name in names]
    name = f"human36m {split} in {root}"
    return Human36m(name, pictures, Entries(files, files, skipped), rows, pose2mesh)


def _known_frames(
    files: list[str],
) -> tuple[Skipped, Int[np.ndarray, " N"], list[FrameName]]:
    """The entries whose action and camera are known, in the order of the npz."""
    skipped, kept, names = Skipped(), [], []
    for place, file in enumerate(files):
        name = parse_name(file)
        if name is None:
            skipped.add(place, file, "whose name is not S<subject>_<action>.<camera>_<frame>")
        elif name.action not in ACTIONS:
            skipped.add(place, file, "of an action that METRO does not know")
        elif name.camera_id not in CAMERAS:
            skipped.add(place, file, "of an unknown camera")
        else:
            kept.append(place)
            names.append(name)
    return skipped, np.array(kept, np.int64), names
