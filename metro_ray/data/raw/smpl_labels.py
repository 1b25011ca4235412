"""Joints from SMPL parameters, for raw data sets that publish parameters instead of joints."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from metro_ray.bodies.assets import ASSETS, assets_folder, find_asset
from metro_ray.bodies.joints import J24, J24_TO_J14
from metro_ray.bodies.spec import get_spec
from metro_ray.data.raw.raw_dataset import Targets, empty_targets
from metro_ray.errors import DataError

if TYPE_CHECKING:
    from metro_ray.bodies.smpl import SmplBody

SPEC = get_spec("smpl")
NUM_JOINTS = len(J24)
EMPTY = empty_targets(NUM_JOINTS, SPEC.num_pose)
"""Zeros in METRO's nesting of body labels."""
MAX_BETA = 3.0
"""Fits with a shape number beyond it get the average shape (METRO, Pose2Mesh)."""
MAX_FIT_ERROR_MM = 50.0
"""Fits that are further from the annotated joints are not used (METRO's Human3.6M rule)."""


class SmplJoints(NamedTuple):
    """Joints of a posed neutral SMPL mesh that was not moved, metres."""

    label: Float[np.ndarray, "24 3"]
    """METRO's 24, float32."""
    evaluated: Float[np.ndarray, "14 3"]
    """J14, from the Human3.6M regressor."""
    root: Float[np.ndarray, " 3"]
    """SMPL's own pelvis, about which the body turns."""


_loading = threading.Lock()


def _load(folder: Path) -> SmplBody:
    """The model of a folder; one thread reads the files, the others wait for it."""
    with _loading:
        return _read(folder)


@lru_cache(maxsize=1)
def _read(folder: Path) -> SmplBody:
    from metro_ray.bodies.smpl import load_smpl

    return load_smpl(folder)


class SmplLabels:
    """The neutral SMPL, loaded at first use, once in a process; pickles as its folder."""

    def __init__(self, assets_root: str | Path | None = None) -> None:
        """Look for its files.

        Raises:
            AssetNotFoundError: one is missing.
        """
        self._folder = assets_folder(assets_root).absolute()
        for asset in ASSETS:
            if SPEC.name in asset.bodies:
                find_asset(asset.name, self._folder)

    def joints(self, pose: Float[np.ndarray, " 72"], betas: Float[np.ndarray, " 10"]) -> SmplJoints:
        """Joints of a pose and shape."""
        import torch

        from metro_ray.geometry.rotations import axis_angle_to_matrix

        body = _load(self._folder)
        vectors = torch.tensor(np.asarray(pose), dtype=torch.float32).reshape(1, -1, 3)
        shape = torch.tensor(np.asarray(betas), dtype=torch.float32)[None]
        with torch.inference_mode():
            posed = body.move(axis_angle_to_matrix(vectors), shape)
            label = body.get_buffer("label_regressor") @ posed.vertices
            evaluated = body.joints_from_mesh(posed.vertices)
        return SmplJoints(label[0].numpy(), evaluated[0].numpy(), posed.joints[0, 0].numpy())

    def fit_error_mm(self, joints: SmplJoints, annotated: Float[np.ndarray, "24 3"]) -> float:
        """Mean distance of the fit's 14 joints to annotated ones (metres), means aligned."""
        fitted = joints.evaluated * 1000.0
        target = annotated[list(J24_TO_J14)] * 1000.0
        aligned = fitted - fitted.mean(axis=0) + target.mean(axis=0)
        return float(np.sqrt(((target - aligned) ** 2).sum(axis=1)).mean())


def joints_3d(points: Float[np.ndarray, "24 3"]) -> Float[np.ndarray, "1 24 4"]:
    """Points with confidence 1, in METRO's nesting."""
    result = np.ones((1, len(points), 4))
    result[0, :, :3] = points
    return result


def fitted_targets(
    smpl: SmplLabels, pose: Float[np.ndarray, " 72"], betas: Float[np.ndarray, " 10"]
) -> Targets:
    """Labels of a row that has SMPL parameters: these, and the 24 joints of their mesh."""
    if not (np.isfinite(pose).all() and np.isfinite(betas).all()):
        raise DataError("its SMPL parameters hold NaN or infinite numbers")
    return Targets(None, joints_3d(smpl.joints(pose, betas).label), pose, betas)


def bounded_betas(betas: Float[np.ndarray, " 10"]) -> Float[np.ndarray, " 10"]:
    """The average shape instead of one that is too far from it."""
    return np.zeros_like(betas) if (np.abs(betas) > MAX_BETA).any() else betas


def rotate_root(
    pose: Float[np.ndarray, " 72"], rotation: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, " 72"]:
    """A pose seen from a camera: R times the global orientation; float32 as METRO keeps it."""
    from scipy.spatial.transform import Rotation

    result = np.asarray(pose, np.float32).copy()
    turned = np.asarray(rotation, np.float64) @ Rotation.from_rotvec(result[:3]).as_matrix()
    result[:3] = Rotation.from_matrix(turned).as_rotvec()
    return result
