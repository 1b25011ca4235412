"""Rows with nothing odd about them: joints that a camera sees, in a box, in a picture."""

import cv2
import numpy as np

from metro_ray.bodies.spec import get_spec
from metro_ray.data.rows import Row

HEIGHT, WIDTH = 60, 80


def clean_image(seed=0):
    """A smooth coloured picture, RGB uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def encode(image, extension=".jpg"):
    return cv2.imencode(extension, image[:, :, ::-1])[1].tobytes()


def clean_label(spec, seed=0, **changes):
    """A label whose 2D joints are its 3D joints seen by a camera; box of 50 px."""
    rng = np.random.default_rng(seed)
    joints = len(spec.label_joints)
    size = 1.0 if spec.kind == "body" else 0.2
    points = rng.uniform(-0.5, 0.5, (joints, 3)) * size
    pixels = (40.0, 30.0) + points[:, :2] * 40 / size
    low, high = (0.2, 0.8) if spec.name.startswith("anny") else (-1, 1)
    label = {
        "center": [40.0, 30.0],
        "scale": 0.25,
        "2d_joints": np.column_stack([pixels, np.ones(joints)]).tolist(),
        "has_2d_joints": 1,
        "3d_joints": np.column_stack([points, np.ones(joints)]).tolist(),
        "has_3d_joints": 1,
        "pose": rng.uniform(-0.3, 0.3, spec.num_pose).tolist(),
        "betas": rng.uniform(low, high, spec.num_betas).tolist(),
        "has_smpl": 1,
        "body_model": spec.name,
    }
    return {**label, **changes}


def clean_row(spec, number=0, source=0, **changes):
    """A row; `changes` replace fields of its label."""
    return Row(
        key=f"seq/{source}/{number:03d}.jpg",
        image_bytes=encode(clean_image(number)),
        label=clean_label(spec, number, **changes),
        hw=(HEIGHT, WIDTH),
        source=source,
        where=f"memory, source {source}: row {number}",
    )


class MemoryRows:
    """A data set of given rows that has the protocol of stored rows and nothing else."""

    shares = ()
    remote = False

    def __init__(self, rows, source_names=("memory",)):
        self.rows = list(rows)
        self.name = "memory"
        self.source_names = source_names

    def __len__(self):
        return len(self.rows)

    def key(self, row_id):
        return self.rows[row_id].key

    key_or_number = key

    def row(self, row_id):
        return self.rows[row_id]

    def source(self, row_id):
        return self.rows[row_id].source

    def describe(self):
        return f"memory: {len(self)} rows"


def clean_rows(spec_name="smpl", num_rows=6):
    """A data set without findings."""
    return MemoryRows(clean_row(get_spec(spec_name), number) for number in range(num_rows))
