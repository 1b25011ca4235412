"""Data sets of a few small pictures, for tests that only look at which rows arrive."""

import cv2
import numpy as np

from metro_ray.bodies.spec import get_spec
from metro_ray.data.writer import TsvDatasetWriter


def write_rows(folder, name, num_rows, broken=(), spec=None, first=0):
    """Small pictures that can be told apart, numbered from `first`; `broken` ones are no JPEGs."""
    spec = spec or get_spec("anny_body")
    joints = len(spec.label_joints)
    with TsvDatasetWriter(folder, name) as writer:
        for row in range(first, first + num_rows):
            rng = np.random.default_rng(row)
            image = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (80, 60))
            data = cv2.imencode(".jpg", image)[1].tobytes()
            label = {
                "center": [40.0, 30.0],
                "scale": 0.25,
                "2d_joints": rng.uniform(0, 60, (1, joints, 3)),
                "has_2d_joints": 1,
                "3d_joints": rng.uniform(-0.5, 0.5, (1, joints, 4)),
                "has_3d_joints": 1,
                "pose": rng.uniform(-0.1, 0.1, spec.num_pose),
                "betas": np.full(spec.num_betas, 0.5),
                "has_smpl": 0,
                "has_mesh": 1,
                "body_model": spec.name,
            }
            writer.add(f"row{row}.jpg", b"no picture" if row in broken else data, label, 60, 80)
    return writer.yaml_path
