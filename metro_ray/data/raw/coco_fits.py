"""SMPL fits to COCO's annotations, by annotation number: EFT's files and those of Pose2Mesh's form.

EFT (`COCO2014-All-ver01.json`): `data` is a list with `annotId`, `parm_pose` (24 rotation
matrices) and `parm_shape`. Pose2Mesh (`coco_smplify_train.json`) and NeuralAnnot: the numbers of
annotations to `smpl_param` (`pose`, `shape`), and in Pose2Mesh's `cam_param` a weak-perspective
camera (`s`, `t`, pixels) with which the fit is checked against the keypoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from metro_ray.data.raw.coco_json import Fields
from metro_ray.data.raw.files import numbers, read_json
from metro_ray.errors import DataError

_HOW = "SMPL fits to COCO: EFT's are at https://github.com/facebookresearch/eft \
(scripts/download_eft.sh), Pose2Mesh's at https://github.com/hongsukchoi/Pose2Mesh_RELEASE"
MAX_KEYPOINT_ERROR = 3.0 / 64.0
"""Mean distance of a fit's joints from the keypoints, in box sides (Pose2Mesh's threshold)."""


class Fit(NamedTuple):
    """One SMPL fit, camera axes."""

    pose: Float[np.ndarray, " 72"]
    betas: Float[np.ndarray, " 10"]
    camera: tuple[float, float, float] | None
    """(s, tx, ty): x in pixels = s * x in metres + tx; None: not known."""


class Fits:
    """Fits by annotation number, as arrays."""

    def __init__(self, ids: list[int], fits: list[Fit]) -> None:
        self._rows = {number: row for row, number in enumerate(ids)}
        self._pose = np.array([fit.pose for fit in fits], np.float32)
        self._betas = np.array([fit.betas for fit in fits], np.float32)
        self._cameras = np.array([fit.camera or (np.nan,) * 3 for fit in fits])

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, annotation: int) -> Fit | None:
        """The fit of an annotation, where there is one."""
        row = self._rows.get(annotation)
        if row is None:
            return None
        scale, shift_x, shift_y = self._cameras[row].tolist()
        camera = None if np.isnan(scale) else (scale, shift_x, shift_y)
        return Fit(self._pose[row], self._betas[row], camera)


def read_fits(path: Path) -> Fits:
    """Read a file of either form.

    Raises:
        DataError: it is missing, broken or of another form.
    """
    content = read_json(path, _HOW)
    if not isinstance(content, dict):
        raise DataError(f"{path} should hold a JSON object, got a {type(content).__name__}")
    if isinstance(content.get("data"), list):
        ids, fits = _read_eft(content["data"], str(path))
    else:
        ids, fits = _read_by_annotation(content, str(path))
    if not fits:
        raise DataError(f"{path} holds no fits in a known form. {_HOW}")
    return Fits(ids, fits)


def _read_eft(data: list[Any], where: str) -> tuple[list[int], list[Fit]]:
    from scipy.spatial.transform import Rotation

    ids, rotations, betas = [], [], []
    for number, item in enumerate(data):
        fields = Fields(item, f"{where}: entry {number}")
        if str(fields["smpltype"]) != "smpl":
            continue
        ids.append(int(fields["annotId"]))
        rotations.append(numbers(fields["parm_pose"], (24, 3, 3), f"{where}: entry {number}"))
        betas.append(numbers(fields["parm_shape"], (10,), f"{where}: entry {number}"))
    if not ids:
        return [], []
    poses = Rotation.from_matrix(np.concatenate(rotations)).as_rotvec().reshape(-1, 72)
    return ids, [Fit(pose, shape, None) for pose, shape in zip(poses, betas, strict=True)]


def _read_by_annotation(content: dict[str, Any], where: str) -> tuple[list[int], list[Fit]]:
    ids, fits = [], []
    for number, item in content.items():
        entry = f"{where}: annotation {number}"
        if not number.isdigit():
            raise DataError(f"{entry}: expected the number of an annotation")
        fields = Fields(item, entry)
        smpl = fields.record("smpl_param")
        camera = item.get("cam_param", {})
        weak = None
        if "s" in camera and "t" in camera:
            scale, shift = numbers(camera["s"], (), entry), numbers(camera["t"], (2,), entry)
            weak = (float(scale), float(shift[0]), float(shift[1]))
        pose, betas = numbers(smpl["pose"], (72,), entry), numbers(smpl["shape"], (10,), entry)
        ids.append(int(number))
        fits.append(Fit(pose, betas, weak))
    return ids, fits


def keypoint_error(
    joints: Float[np.ndarray, "24 3"],
    camera: tuple[float, float, float],
    keypoints: Float[np.ndarray, "24 3"],
) -> float:
    """Mean distance of projected joints from the keypoints that have confidence, pixels."""
    scale, *shift = camera
    distance = np.linalg.norm(joints[:, :2] * scale + shift - keypoints[:, :2], axis=1)
    return float(distance[keypoints[:, 2] > 0].mean())
