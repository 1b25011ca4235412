"""Rows to measure with, in a TSV of their own.

body:  1000 x 1002 px, JPEG quality 95, 218 kB, boxes of 500 to 800 px: METRO's Human3.6M rows.
hand:  224 x 224 px, 14 kB: FreiHAND's.
baked: 512 x 512 px, a person's box of 289 px in the middle: what `metro-ray data convert` bakes of
       a body row (the box with room for every augmentation).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from metro_ray.bodies.spec import MeshSpec, get_spec
from metro_ray.data import TsvDatasetWriter

_DISTINCT = 64


class RowKind(NamedTuple):
    """Rows of one shape."""

    spec_name: str
    height: int
    width: int
    scales: tuple[float, float]
    """Smallest and largest box side / 200 px."""
    cell_px: int
    """Coarseness of the picture; with the grain it sets the bytes per pixel."""
    grain: float
    """Standard deviation of noise, grey levels."""

    @property
    def spec(self) -> MeshSpec:
        return get_spec(self.spec_name)


KINDS = {
    "body": RowKind("smpl", 1002, 1000, (2.5, 4.0), 32, 0.65),
    "hand": RowKind("mano", 224, 224, (0.9, 0.9), 24, 1.25),
    "baked": RowKind("smpl", 512, 512, (1.445, 1.445), 24, 1.25),
}


def write_rows(folder: Path, kind: str, num_rows: int = _DISTINCT) -> Path:
    """Write a data set; more rows than 64 repeat those, by the linelist."""
    rng, given = np.random.default_rng(0), KINDS[kind]
    with TsvDatasetWriter(folder, kind) as writer:
        for row in range(min(num_rows, _DISTINCT)):
            label = _label(rng, given)
            writer.add(f"{row:05d}.jpg", _picture(rng, given), label, given.height, given.width)
    listed = "".join(f"{row % _DISTINCT}\n" for row in range(num_rows))
    (folder / f"{kind}.linelist.tsv").write_text(listed)
    return writer.yaml_path


def bytes_per_row(folder: Path, kind: str) -> float:
    """Mean length of the encoded pictures."""
    rows = len((folder / f"{kind}.img.lineidx").read_text().split())
    return 0.75 * (folder / f"{kind}.img.tsv").stat().st_size / rows


def _picture(rng: np.random.Generator, kind: RowKind) -> bytes:
    coarse = (kind.height // kind.cell_px, kind.width // kind.cell_px, 3)
    smooth = cv2.resize(
        rng.integers(0, 256, coarse, dtype=np.uint8),
        (kind.width, kind.height),
        interpolation=cv2.INTER_CUBIC,
    )
    image = smooth + rng.normal(0, kind.grain, (kind.height, kind.width, 1))
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def _label(rng: np.random.Generator, kind: RowKind) -> dict[str, object]:
    spec, joints = kind.spec, len(kind.spec.label_joints)
    return {
        "center": [kind.width / 2, kind.height / 2],
        "scale": rng.uniform(*kind.scales),
        "2d_joints": rng.uniform(0, kind.width, (joints, 3)),
        "has_2d_joints": 1,
        "3d_joints": rng.uniform(-1, 1, (joints, 4)),
        "has_3d_joints": 1,
        "pose": rng.uniform(-1, 1, spec.num_pose),
        "betas": rng.uniform(-1, 1, spec.num_betas),
        "has_smpl": 1,
    }
