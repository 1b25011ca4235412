"""MPII Human Pose: 2D joints of people in photos.

METRO published no converter for MPII; these rules are this project's. Accepted are the JSON files
that pose estimation baselines share (`annot/train.json`: `joints`, `joints_vis`, `image`, `center`,
`scale`), and SPIN's `mpii_train.npz`. In the JSON, numbers count from 1 and the scale is the
person's height / 200 px; the box follows those baselines: the centre 15 px x scale further down,
1.25 times the height.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from metro_ray.bodies.joints import J24
from metro_ray.data.raw.coco_json import Fields
from metro_ray.data.raw.files import ImageFolder, Images, numbers, read_json
from metro_ray.data.raw.raw_dataset import Entries, RawDataset, Skipped, Targets, label_record
from metro_ray.data.raw.smpl_labels import EMPTY, NUM_JOINTS
from metro_ray.data.raw.spin_npz import SpinDataset, open_spin_npz
from metro_ray.data.storage import as_path, exists

MPII_JOINTS = (
    "R_Ankle", "R_Knee", "R_Hip", "L_Hip", "L_Knee", "L_Ankle", "Pelvis", "Thorax", "Neck",
    "Top_of_Head", "R_Wrist", "R_Elbow", "R_Shoulder", "L_Shoulder", "L_Elbow", "L_Wrist",
)  # fmt: skip
_TO_J24 = [J24.index(name) for name in MPII_JOINTS]
_DOWN_PX, _MARGIN = 15.0, 1.25
_HOW = "Pictures: register at http://human-pose.mpi-inf.mpg.de; annot/train.json and valid.json: \
see https://github.com/microsoft/human-pose-estimation.pytorch (or SPIN's mpii_train.npz)"


class _People(NamedTuple):
    centers: Float[np.ndarray, "N 2"]
    scales: Float[np.ndarray, " N"]
    joints: Float[np.ndarray, "N 16 3"]
    """x, y counted from 0, and whether they are annotated."""


class Mpii(RawDataset):
    """Rows of MPII, one a person."""

    def __init__(self, name: str, images: ImageFolder, entries: Entries, people: _People) -> None:
        super().__init__("mpii", name, images, entries)
        self._people = people

    def _label(self, row_id: int) -> dict[str, Any]:
        people = self._people
        keypoints = np.zeros((1, NUM_JOINTS, 3))
        keypoints[0, _TO_J24] = people.joints[row_id]
        targets = Targets(keypoints_2d=keypoints)
        return label_record(people.centers[row_id], people.scales[row_id], targets, EMPTY)


def open_mpii(
    folder: str | Path,
    split: str,
    *,
    images: Images = "original",
    layout: Literal["auto", "json", "spin"] = "auto",
    assets_root: str | Path | None = None,
) -> Mpii | SpinDataset:
    """Open MPII.

    Args:
        folder: with `images` and the annotations.
        split: train or valid.
        images: the files' bytes or METRO's.
        layout: the baselines' JSON or SPIN's npz; auto takes the JSON where it is.
        assets_root: folder of the SMPL files (only for an npz with fits).
    """
    root = as_path(folder)
    path, spin = root / "annot" / f"{split}.json", root / f"mpii_{split}.npz"
    pictures = ImageFolder(root, images, _HOW)
    if layout == "spin" or (layout == "auto" and not exists(path) and exists(spin)):
        return open_spin_npz("mpii", spin, pictures, assets_root)
    entries, people = _read_people(path)
    return Mpii(f"mpii {split} in {root}", pictures, entries, people)


def _read_people(path: Path) -> tuple[Entries, _People]:
    skipped, keys, files, rows = Skipped(), [], [], []
    for number, item in enumerate(read_json(path, _HOW)):
        where = f"{path}: entry {number}"
        fields = Fields(item, where)
        file = f"images/{fields['image']}"
        visible = numbers(fields["joints_vis"], (16,), f"{where}, joints_vis") > 0
        center = numbers(fields["center"], (2,), f"{where}, center")
        scale = float(numbers(fields["scale"], (), f"{where}, scale"))
        if scale <= 0 or center[0] < 0:
            skipped.add(number, file, "without a box")
            continue
        if not visible.any():
            skipped.add(number, file, "without a single joint")
            continue
        joints = np.zeros((16, 3))
        points = numbers(fields["joints"], (16, 2), f"{where}, joints")
        joints[visible, :2], joints[visible, 2] = points[visible] - 1.0, 1.0
        keys.append(f"{file}#{number}")
        files.append(file)
        rows.append((center - 1.0 + (0.0, _DOWN_PX * scale), scale * _MARGIN, joints))
    columns = list(zip(*rows, strict=True)) if rows else [()] * 3
    return Entries(keys, files, skipped), _People(*(np.array(column) for column in columns))
