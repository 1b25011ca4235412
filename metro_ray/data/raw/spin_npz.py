"""Annotations in the npz layout of SPIN and EFT, which COCO and MPII are passed on in.

`imgname`, `center`, `scale` (a box as METRO's labels have it) and `part` (24 joints in METRO's
order: x, y, confidence); where there are fits `pose`, `shape` and `has_smpl`, where there are 3D
joints `S` (24 x 4, metres).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from metro_ray.data.raw.files import ImageFolder, read_npz, text_of
from metro_ray.data.raw.raw_dataset import Entries, RawDataset, Skipped, Targets, label_record
from metro_ray.data.raw.smpl_labels import EMPTY, NUM_JOINTS, SmplLabels, fitted_targets
from metro_ray.errors import DataError

SPIN = "It is one of the dataset_extras of SPIN: see https://github.com/nkolot/SPIN \
(fetch_data.sh), or the same with EFT's fits"
_SHAPES = {
    "center": (2,),
    "scale": (),
    "part": (NUM_JOINTS, 3),
    "S": (NUM_JOINTS, 4),
    "pose": (72,),
    "shape": (10,),
    "has_smpl": (),
}


class SpinDataset(RawDataset):
    """Rows of such a file, in its order."""

    def __init__(
        self,
        title: str,
        name: str,
        images: ImageFolder,
        entries: Entries,
        arrays: dict[str, np.ndarray],
        smpl: SmplLabels | None,
    ) -> None:
        super().__init__(title, name, images, entries)
        self._arrays = arrays
        self._smpl = smpl

    def _label(self, row_id: int) -> dict[str, Any]:
        arrays = self._arrays
        targets = Targets()
        if self._smpl is not None and arrays["has_smpl"][row_id]:
            targets = fitted_targets(self._smpl, arrays["pose"][row_id], arrays["shape"][row_id])
        if "S" in arrays and (arrays["S"][row_id, :, 3] > 0).any():
            targets = targets._replace(joints_3d=arrays["S"][row_id][None])
        targets = targets._replace(keypoints_2d=arrays["part"][row_id][None])
        return label_record(arrays["center"][row_id], arrays["scale"][row_id], targets, EMPTY)


def open_spin_npz(
    title: str,
    path: Path,
    images: ImageFolder,
    assets_root: str | Path | None,
) -> SpinDataset:
    """Open such a file; image names count from the image folder.

    Raises:
        DataError: it is missing, lacks an array, or an array has another shape.
        AssetNotFoundError: it has fits, and the SMPL files are missing.
    """
    required = ("imgname", "center", "scale", "part")
    content = read_npz(path, SPIN, required, optional=("S", "pose", "shape", "has_smpl"))
    files = text_of(content.pop("imgname"))
    for name, array in content.items():
        if array.shape[1:] != _SHAPES[name]:
            raise DataError(f"{path}: {name} should be N x {_SHAPES[name]}, got {array.shape}")
    fits = {"pose", "shape"} <= set(content)
    if fits:
        content.setdefault("has_smpl", np.ones(len(files)))
    skipped, kept = Skipped(), []
    for number, file in enumerate(files):
        if not (content["part"][number, :, 2] > 0).any():
            skipped.add(number, file, "without a single keypoint")
        elif content["scale"][number] <= 0:
            skipped.add(number, file, "without a box")
        else:
            kept.append(number)
    arrays = {name: np.asarray(array, np.float64)[kept] for name, array in content.items()}
    files = [files[number] for number in kept]
    keys = [f"{file}#{number}" for file, number in zip(files, kept, strict=True)]
    smpl = SmplLabels(assets_root) if fits else None
    entries = Entries(keys, files, skipped)
    return SpinDataset(
        title, f"{title} ({path.name}) in {path.parent}", images, entries, arrays, smpl
    )
