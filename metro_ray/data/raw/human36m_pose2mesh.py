"""Pose2Mesh's Human3.6M files: cameras, world joints and SMPL fits of the frames that are rows.

One file of one subject is parsed at a time, and only frames that are needed are kept.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int

from metro_ray.data.raw.coco_json import Fields
from metro_ray.data.raw.files import numbers, read_json
from metro_ray.data.raw.human36m_names import FrameName
from metro_ray.errors import DataError

SUB_ACTIONS = (1, 2)
_HOW = "It is one of Pose2Mesh's Human3.6M files: follow the README of \
https://github.com/hongsukchoi/Pose2Mesh_RELEASE"

_Key = tuple[int, int, int, int]
"""Subject, action, sub-action, frame."""


class Camera(NamedTuple):
    """One of the four cameras of a subject; float32 as METRO keeps it."""

    rotation: Float32[np.ndarray, "3 3"]
    shift: Float32[np.ndarray, " 3"]
    """Millimetres."""
    focal: Float32[np.ndarray, " 2"]
    princpt: Float32[np.ndarray, " 2"]

    def see(self, points: Float32[np.ndarray, "N 3"]) -> Float32[np.ndarray, "N 3"]:
        """World points in the camera frame, millimetres."""
        return points @ self.rotation.T + self.shift


class World(NamedTuple):
    """All subjects."""

    cameras: dict[tuple[int, int], Camera]
    """By subject and camera number."""
    rows: dict[_Key, int]
    """Where the joints of a frame are."""
    joints: Float32[np.ndarray, "M 17 3"]
    """J17, world frame, millimetres."""
    fit_of: Int[np.ndarray, " M"]
    """Which fit belongs to a frame; -1: none."""
    pose: Float32[np.ndarray, "F 72"]
    """World frame."""
    betas: Float32[np.ndarray, "F 10"]

    def rows_of(self, name: FrameName) -> list[int]:
        """Rows of a frame in the sub-actions that have it; its name does not say which it is."""
        keys = [(name.subject, name.action_number, sub, name.frame) for sub in SUB_ACTIONS]
        return [self.rows[key] for key in keys if key in self.rows]


def read_subjects(folder: Path, names: list[FrameName]) -> World:
    """Read what the given frames need.

    Raises:
        DataError: a file is missing or broken.
    """
    needed: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for name in names:
        needed[name.subject].add((name.action_number, name.frame))
    cameras: dict[tuple[int, int], Camera] = {}
    joints: dict[_Key, np.ndarray] = {}
    fits: dict[_Key, tuple[np.ndarray, np.ndarray]] = {}
    for subject, frames in sorted(needed.items()):
        cameras |= _read_cameras(folder, subject)
        path = folder / f"Human36M_subject{subject}_joint_3d.json"
        for key, value in _wanted(read_json(path, _HOW), subject, frames):
            joints[key] = numbers(value, (17, 3), f"{path}: {key[1:]}").astype(np.float32)
        path = folder / f"Human36M_subject{subject}_smpl_param.json"
        for key, value in _wanted(read_json(path, _HOW), subject, frames):
            fits[key] = _fit(value, f"{path}: {key[1:]}")
    _check_cameras(cameras, names, folder)
    fit_rows = {key: row for row, key in enumerate(fits)}
    return World(
        cameras=cameras,
        rows={key: row for row, key in enumerate(joints)},
        joints=np.array(list(joints.values()), np.float32).reshape(-1, 17, 3),
        fit_of=np.array([fit_rows.get(key, -1) for key in joints], np.int64),
        pose=np.array([pose for pose, _ in fits.values()], np.float32).reshape(-1, 72),
        betas=np.array([betas for _, betas in fits.values()], np.float32).reshape(-1, 10),
    )


def _wanted(
    content: dict[str, Any], subject: int, frames: set[tuple[int, int]]
) -> list[tuple[_Key, Any]]:
    """Entries of `content[action][sub-action][frame]` that are wanted and there."""
    found: list[tuple[_Key, Any]] = []
    for action, frame in sorted(frames):
        for sub in SUB_ACTIONS:
            value = content.get(str(action), {}).get(str(sub), {}).get(str(frame))
            if value is not None:
                found.append(((subject, action, sub, frame), value))
    return found


def _read_cameras(folder: Path, subject: int) -> dict[tuple[int, int], Camera]:
    path = folder / f"Human36M_subject{subject}_camera.json"
    cameras = {}
    for number, content in read_json(path, _HOW).items():
        where = f"{path}: camera {number}"
        record = Fields(content, where)
        shapes = {"R": (3, 3), "t": (3,), "f": (2,), "c": (2,)}
        arrays = [numbers(record[key], shape, where) for key, shape in shapes.items()]
        cameras[subject, int(number)] = Camera(*(array.astype(np.float32) for array in arrays))
    return cameras


def _check_cameras(
    cameras: dict[tuple[int, int], Camera], names: list[FrameName], folder: Path
) -> None:
    lacking = {(name.subject, name.camera) for name in names} - set(cameras)
    if lacking:
        subject, camera = min(lacking)
        path = folder / f"Human36M_subject{subject}_camera.json"
        raise DataError(f"{path} lacks camera {camera}, which rows of the npz need")


def _fit(value: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    record = Fields(value, where)
    pose = numbers(record["pose"], (72,), where).astype(np.float32)
    return pose, numbers(record["shape"], (10,), where).astype(np.float32)
