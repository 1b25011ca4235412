"""METRO's own way from a TSV row to tensors, as it is described: what our row path is timed beside.

METRO's dataset class is not part of this package. This is its work per sample, step for step: one
seek and `readline` for each of the image, size and label files, base64 of the standard library,
`imdecode`, colour swap, a float64 window (zero padded, rotated whole, cut, resized), colour factors
on float64, a cast, division and normalisation in float32, a matrix for each 2D joint. Nothing is
slower than it has to be to do that. `check_crops` compares its crops with our parity crop, so
that both are known to make the same picture.
"""

from __future__ import annotations

import base64
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from metro_ray.bodies.spec import MeshSpec
from metro_ray.data import open_dataset
from metro_ray.data.transform import decode_image
from metro_ray.geometry.crop import crop_metro

_SIZE = 224
_MEAN = torch.tensor([0.485, 0.456, 0.406])
_STD = torch.tensor([0.229, 0.224, 0.225])


class _Tsv:
    """A file that is read by seeking to the offsets of its line index."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._offsets = [int(line) for line in path.with_suffix(".lineidx").read_text().split()]

    def __getitem__(self, row: int) -> list[bytes]:
        self._file.seek(self._offsets[row])
        return [column.strip() for column in self._file.readline().split(b"\t")]


class Stages:
    """CPU time by stage; `tick` ends one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = 0.0

    def start(self) -> None:
        self._last = time.process_time()

    def tick(self, name: str) -> None:
        now = time.process_time()
        self.seconds[name] += now - self._last
        self._last = now


class NoStages(Stages):
    """Takes no times: the clock itself costs some microseconds."""

    def start(self) -> None:
        pass

    def tick(self, name: str) -> None:
        pass


class MetroRows:
    """METRO's dataset over one folder that `TsvDatasetWriter` wrote."""

    def __init__(self, folder: Path, stem: str, spec: MeshSpec, *, train: bool) -> None:
        self._img, self._hw, self._label = (
            _Tsv(folder / f"{stem}.{kind}.tsv") for kind in ("img", "hw", "label")
        )
        text = (folder / f"{stem}.linelist.tsv").read_text()
        self._rows = [int(line) for line in text.split()]
        self._spec, self._train = spec, train
        self._order = list(range(len(spec.label_joints)))
        for left, right in spec.label_flip_pairs:
            self._order[left], self._order[right] = right, left
        self._pose_order = list(range(spec.num_pose))
        for left, right in spec.pose_flip_pairs:
            for axis in range(3):
                a, b = 3 * left + axis, 3 * right + axis
                self._pose_order[a], self._pose_order[b] = b, a
        self.stages: Stages = NoStages()

    def __len__(self) -> int:
        return len(self._rows)

    def sample(self, index: int) -> tuple[str, torch.Tensor, dict[str, Any]]:
        """Key, normalised picture and labels."""
        stages, row = self.stages, self._rows[index]
        stages.start()
        columns = self._img[row]
        stages.tick("rows, colour swap")
        data = np.frombuffer(base64.b64decode(columns[-1]), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        stages.tick("decode")
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        key = self._hw[row][0].decode()
        text = self._label[row][1]
        stages.tick("rows, colour swap")
        label = json.loads(text)[0]
        stages.tick("JSON")
        center, scale = label["center"], label["scale"]
        keypoints = np.asarray(label["2d_joints"], np.float64).copy()
        joints = np.asarray(label["3d_joints"], np.float64).copy()
        flip, gain, rotation, factor = self._augmentation()
        stages.tick("masks, tensors")
        picture = crop(image, center, factor * scale, rotation, stages)
        if flip:
            picture = np.fliplr(picture)
        for channel in range(3):
            picture[:, :, channel] = np.minimum(
                255.0, np.maximum(0.0, picture[:, :, channel] * gain[channel])
            )
        picture = np.transpose(picture.astype("float32"), (2, 0, 1)) / 255.0
        stages.tick("noise, clip, cast")
        original = torch.from_numpy(picture).float()
        image_tensor = (original - _MEAN[:, None, None]) / _STD[:, None, None]
        stages.tick("normalise")
        joints = self._joints_3d(joints, rotation, flip)
        pose = self._pose(label["pose"], rotation, flip)
        stages.tick("masks, tensors")
        points = self._joints_2d(keypoints, center, factor * scale, rotation, flip)
        stages.tick("2D joints")
        meta = {
            "ori_img": original,
            "pose": torch.from_numpy(pose).float(),
            "betas": torch.tensor(np.asarray(label["betas"], np.float32)),
            "joints_3d": torch.from_numpy(joints).float(),
            "has_3d_joints": label["has_3d_joints"],
            "has_smpl": label["has_smpl"],
            "mjm_mask": torch.from_numpy(self._mask(self._spec.num_joints)).float(),
            "mvm_mask": torch.from_numpy(self._mask(self._spec.num_coarse)).float(),
            "has_2d_joints": label["has_2d_joints"],
            "joints_2d": torch.from_numpy(points).float(),
            "scale": float(factor * scale),
            "center": np.asarray(center, np.float32),
        }
        stages.tick("masks, tensors")
        return key, image_tensor, meta

    def _augmentation(self) -> tuple[bool, np.ndarray, float, float]:
        if not self._train:
            return False, np.ones(3), 0.0, 1.0
        widest = 30.0 if self._spec.kind == "body" else 90.0
        flip = self._spec.kind == "body" and np.random.uniform() <= 0.5
        gain = np.random.uniform(0.6, 1.4, 3)
        rotation = min(2 * widest, max(-2 * widest, np.random.randn() * widest))
        factor = min(1.25, max(0.75, np.random.randn() * 0.25 + 1))
        if np.random.uniform() <= 0.6:
            rotation = 0.0
        return flip, gain, rotation, factor

    def _mask(self, count: int) -> np.ndarray:
        mask = np.ones((count, 1))
        if self._train:
            masked = int(np.random.uniform() * self._spec.mask_fraction * count)
            mask[np.random.choice(count, replace=False, size=masked)] = 0.0
        return mask

    def _joints_2d(self, points, center, scale, rotation, flip) -> np.ndarray:
        for index in range(len(points)):
            points[index, :2] = transform(points[index, :2] + 1, center, scale, rotation)
        points[:, :-1] = 2.0 * points[:, :-1] / _SIZE - 1.0
        if flip:
            points = points[self._order]
            points[:, 0] = -points[:, 0]
        return points.astype("float32")

    def _joints_3d(self, joints, rotation, flip) -> np.ndarray:
        joints[:, :3] -= joints[self._spec.root_label_joint, :3]
        joints[:, :3] = np.einsum("ij,kj->ki", _turn(rotation), joints[:, :3])
        if flip:
            joints = joints[self._order]
            joints[:, 0] = -joints[:, 0]
        return joints.astype("float32")

    def _pose(self, pose, rotation, flip) -> np.ndarray:
        pose = np.asarray(pose, np.float32).copy()
        orientation, _ = cv2.Rodrigues(pose[:3])
        turned, _ = cv2.Rodrigues(np.dot(_turn(rotation), orientation))
        pose[:3] = turned.T[0]
        if flip:
            pose = pose[self._pose_order]
            pose[1::3], pose[2::3] = -pose[1::3], -pose[2::3]
        return pose


def _turn(rotation: float) -> np.ndarray:
    matrix = np.eye(3)
    if rotation != 0:
        sine, cosine = np.sin(np.deg2rad(-rotation)), np.cos(np.deg2rad(-rotation))
        matrix[0, :2], matrix[1, :2] = (cosine, -sine), (sine, cosine)
    return matrix


def transform(point, center, scale, rotation=0.0, invert=False) -> np.ndarray:
    """A 1-based point through the matrix of a box, truncated to whole pixels."""
    side = 200 * scale
    matrix = np.zeros((3, 3))
    matrix[0, 0] = matrix[1, 1] = float(_SIZE) / side
    matrix[0, 2] = _SIZE * (-float(center[0]) / side + 0.5)
    matrix[1, 2] = _SIZE * (-float(center[1]) / side + 0.5)
    matrix[2, 2] = 1
    if rotation != 0:
        move = np.eye(3)
        move[0, 2] = move[1, 2] = -_SIZE / 2
        back = move.copy()
        back[:2, 2] *= -1
        matrix = np.dot(back, np.dot(_turn(rotation), np.dot(move, matrix)))
    if invert:
        matrix = torch.inverse(torch.from_numpy(matrix)).numpy()
    mapped = np.dot(matrix, np.array([point[0] - 1, point[1] - 1, 1.0]))
    return mapped[:2].astype(int) + 1


def crop(image, center, scale, rotation, stages: Stages | None = None) -> np.ndarray:
    """Float64 window of an RGB picture: padded, rotated, cut, resized to 224 x 224."""
    stages = stages or NoStages()
    upper = transform([1, 1], center, scale, invert=True) - 1
    lower = transform([_SIZE + 1, _SIZE + 1], center, scale, invert=True) - 1
    pad = int(np.linalg.norm(lower - upper) / 2 - float(lower[1] - upper[1]) / 2)
    if rotation != 0:
        upper, lower = upper - pad, lower + pad
    window = np.zeros((lower[1] - upper[1], lower[0] - upper[0], 3))
    height, width = image.shape[:2]
    to_x = max(0, -upper[0]), min(lower[0], width) - upper[0]
    to_y = max(0, -upper[1]), min(lower[1], height) - upper[1]
    of_x = max(0, upper[0]), min(width, lower[0])
    of_y = max(0, upper[1]), min(height, lower[1])
    window[to_y[0] : to_y[1], to_x[0] : to_x[1]] = image[of_y[0] : of_y[1], of_x[0] : of_x[1]]
    stages.tick("crop: window")
    if rotation != 0:
        middle = tuple((np.array(window.shape[1::-1]) - 1) / 2)
        matrix = cv2.getRotationMatrix2D(middle, rotation, 1.0)
        window = cv2.warpAffine(window, matrix, window.shape[1::-1], flags=cv2.INTER_LINEAR)
        window = window[pad:-pad, pad:-pad]
        stages.tick("crop: rotation")
    result = cv2.resize(window, (_SIZE, _SIZE), interpolation=cv2.INTER_LINEAR)
    stages.tick("crop: resize")
    return result


def check_crops(yaml_path: Path, spec: MeshSpec, num_rows: int) -> float:
    """Largest difference of this module's crops from `crop_metro`'s, in grey levels."""
    dataset, largest = open_dataset(yaml_path, spec), 0.0
    for row_id in range(min(num_rows, len(dataset))):
        row = dataset.row(row_id)
        image = np.ascontiguousarray(decode_image(row.image_bytes)[:, :, ::-1])
        center, scale = row.label["center"], row.label["scale"]
        for rotation, factor in ((0.0, 1.0), (0.0, 1.21), (17.5, 0.8), (-60.0, 1.25)):
            ours = crop_metro(image, center, factor * scale, _SIZE, rotation)
            theirs = crop(image, center, factor * scale, rotation)
            largest = max(largest, float(np.abs(ours - theirs).max()))
    return largest
