"""3DPW's own `sequenceFiles`: one pickle a sequence, made into the annotations of Pose2Mesh's JSON.

The rules are those of Pose2Mesh's converter (`data/3dpw2coco.py`): frames whose camera pose is not
valid are left out, the global orientation is turned into the camera, and the box is that of the
given 24 joints inside the picture, widened by 1.2 on each side (METRO widens it once more).
Sequences are in the order of their names, then frames, then people.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from metro_ray.bodies.unpickle import read_pickle
from metro_ray.data.raw.coco_json import Fields
from metro_ray.data.raw.files import ImageFolder, numbers, project
from metro_ray.data.raw.raw_dataset import Entries, Skipped
from metro_ray.data.raw.smpl_labels import rotate_root
from metro_ray.data.raw.threedpw import PeopleOf3dpw, picture_size
from metro_ray.errors import AssetError, DataError

_MARGIN = 1.2
_GENDERS = {"f": "female", "m": "male"}


def read_sequences(
    root: Path, split: str, images: ImageFolder, how: str
) -> tuple[Entries, PeopleOf3dpw]:
    """All people of a split.

    Raises:
        DataError: there are no sequence files, or one is broken or unsafe.
    """
    folder = root / "sequenceFiles" / split
    paths = sorted(folder.glob("*.pkl"), key=lambda path: path.name)
    if not paths:
        raise DataError(f"{folder} holds no sequence files (*.pkl). {how}")
    skipped, names, rows = Skipped(), [], []
    for path in paths:
        try:
            content = read_pickle(path)
        except AssetError as error:
            raise DataError(str(error)) from error
        for name, row in _Sequence(path, content, images).people(skipped):
            names.append(name)
            rows.append(row)
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 8
    *arrays, genders, rotations = columns
    people = PeopleOf3dpw(
        *(np.array(array) for array in arrays),
        genders=list(genders),
        turned_about_origin=np.array(rotations),
    )
    return Entries(names, names, skipped), people


class _Sequence:
    """One sequence file."""

    def __init__(self, path: Path, content: dict[str, Any], images: ImageFolder) -> None:
        fields = Fields(content, str(path))
        self._fields, self._path = fields, path
        self.name = str(fields["sequence"])
        intrinsics = numbers(fields["cam_intrinsics"], (3, 3), f"{path}: cam_intrinsics")
        self._focal, self._princpt = intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2]
        self._cameras = np.asarray(fields["cam_poses"], np.float64)
        self._size = picture_size(images, self._picture(0))

    def people(self, skipped: Skipped) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Picture and annotation of each person in each frame."""
        fields, frames = self._fields, len(self._cameras)
        poses = self._each("poses", (frames, 72))
        trans = self._each("trans", (frames, 3))
        joints = self._each("jointPositions", (frames, 24, 3))
        valid = self._each("campose_valid", (frames,))
        betas = [np.asarray(each, np.float64).reshape(-1)[:10] for each in fields["betas"]]
        for frame, camera in enumerate(self._cameras):
            picture, rotation, shift = self._picture(frame), camera[:3, :3], camera[:3, 3]
            for person in range(len(betas)):
                key = f"{picture}, person {person}"
                if not valid[person][frame]:
                    skipped.add(frame, key, "without a valid camera pose")
                    continue
                points = joints[person][frame] @ rotation.T + shift
                box = self._box(project(points, self._focal, self._princpt))
                if box is None:
                    skipped.add(frame, key, "with no joint inside the picture")
                    continue
                row = (
                    box,
                    self._focal,
                    self._princpt,
                    rotate_root(poses[person][frame], rotation),
                    betas[person].astype(np.float32),
                    rotation @ trans[person][frame] + shift,
                    _GENDERS.get(str(fields["genders"][person]), "none"),
                    rotation,
                )
                yield picture, row

    def _picture(self, frame: int) -> str:
        return f"{self.name}/image_{frame:05d}.jpg"

    def _each(self, field: str, shape: tuple[int, ...]) -> list[np.ndarray]:
        """A field that has one array a person."""
        return [
            numbers(value, shape, f"{self._path}: {field} of person {person}")
            for person, value in enumerate(self._fields[field])
        ]

    def _box(self, points: Float[np.ndarray, "24 2"]) -> Float[np.ndarray, " 4"] | None:
        """Box of the joints inside the picture; None when there are none."""
        height, width = self._size
        inside = np.all((points >= 0) & (points < [width, height]), axis=1)
        if not inside.any():
            return None
        low, high = points[inside].min(axis=0), points[inside].max(axis=0)
        center, size = (low + high) / 2, (high - low) * _MARGIN
        return np.concatenate([center - size / 2, size])
