import numpy as np
import pytest
import trimesh

from metro_ray.bodies.joints import J14
from metro_ray.geometry.boxes import Window
from metro_ray.inference.result import MeshResult, place_in_picture


@pytest.fixture
def ball():
    """A ball of 30 cm in the middle of a 100 x 100 picture, where it is 60 pixels wide."""
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=0.3)
    vertices = np.asarray(sphere.vertices, np.float32)
    joints = vertices[:: len(vertices) // 14][:14].copy()
    camera, window = np.array([2.0, 0.0, 0.0], np.float32), Window(0, 0, 100, 100)
    return MeshResult(
        vertices=vertices,
        joints=joints,
        camera=camera,
        window=window,
        vertices_px=place_in_picture(vertices, camera, window),
        joints_px=place_in_picture(joints, camera, window),
        faces=np.asarray(sphere.faces, np.int32),
        joint_set=J14,
    )


@pytest.fixture
def photo():
    """100 x 100 noise that nothing may write to."""
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    image.setflags(write=False)
    return image
