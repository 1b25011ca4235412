"""Small data sets in METRO's layout, made without photos."""

import cv2
import numpy as np
import pytest
from object_store import s3_bucket

from metro_ray.bodies.spec import get_spec
from metro_ray.data.writer import TsvDatasetWriter


def make_image(seed=0, height=60, width=80):
    """Smooth coloured picture, RGB uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(image, extension=".jpg"):
    return cv2.imencode(extension, image[:, :, ::-1])[1].tobytes()


def make_label(spec, seed=0, **changes):
    """A whole label record of a row of 60 x 80 pixels."""
    rng = np.random.default_rng(seed)
    num_joints = len(spec.label_joints)
    keypoints = np.ones((num_joints, 3))
    keypoints[:, :2] = rng.uniform(0, 60, (num_joints, 2))
    joints = np.ones((num_joints, 4))
    joints[:, :3] = rng.uniform(-1, 1, (num_joints, 3))
    label = {
        "center": [40.0, 30.0],
        "scale": 0.3,
        "2d_joints": keypoints.tolist(),
        "has_2d_joints": 1,
        "3d_joints": joints.tolist(),
        "has_3d_joints": 1,
        "pose": rng.uniform(-1, 1, spec.num_pose).tolist(),
        "betas": rng.uniform(-1, 1, spec.num_betas).tolist(),
        "has_smpl": 1,
    }
    return {**label, **changes}


def write_dataset(folder, spec, num_rows, name="train", images=None, labels=None):
    """A data set of `num_rows` rows; `images` and `labels` replace single rows."""
    with TsvDatasetWriter(folder, name) as writer:
        for row in range(num_rows):
            image = (images or {}).get(row, encode(make_image(row)))
            label = (labels or {}).get(row, make_label(spec, row))
            writer.add(f"seq/image_{row:03d}.jpg", image, label, 60, 80)
    return folder / f"{name}.yaml"


@pytest.fixture
def body():
    return get_spec("smpl")


@pytest.fixture
def hand():
    return get_spec("mano")


@pytest.fixture
def rows(tmp_path, body):
    """YAML of five whole rows; tests break its files."""
    return write_dataset(tmp_path, body, 5)


@pytest.fixture(scope="session")
def s3():
    """URL of a bucket on an S3-compatible server on loopback."""
    with s3_bucket("rows") as url:
        yield url
