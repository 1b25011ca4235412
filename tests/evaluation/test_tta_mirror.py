"""Which vertices and joints swap when a person is mirrored: found in the template, true in any pose."""

import numpy as np
import pytest
import torch
from toys import TOY_BODY, ToyBody

from metro_ray.bodies import load_body
from metro_ray.data.augment import flip_pose
from metro_ray.errors import ConfigError
from metro_ray.evaluation.evaluate import RootRelative
from metro_ray.evaluation.tta_mirror import find_mirror


@pytest.fixture(scope="module")
def body():
    return load_body("anny_body")


def test_a_mirrored_pose_makes_the_mirrored_mesh(body):
    mirror = find_mirror(body)
    rng = np.random.default_rng(0)
    pose = rng.normal(0.0, 0.3, body.spec.num_pose).astype(np.float32)
    poses = torch.from_numpy(np.stack([pose, flip_pose(pose, body.spec.pose_flip_pairs)]))
    vertices = body(poses, body.neutral_betas.expand(2, -1)).vertices
    vertices = vertices - body.root_from_mesh(vertices)
    joints = body.joints_from_mesh(vertices)
    swapped = mirror.apply(RootRelative(vertices[:1], joints[:1]))
    torch.testing.assert_close(swapped.vertices, vertices[1:], rtol=0, atol=2e-3)
    torch.testing.assert_close(swapped.joints, joints[1:], rtol=0, atol=2e-3)
    assert (vertices[0] - vertices[1]).abs().max() > 0.1


def test_mirroring_twice_changes_nothing(body):
    mirror = find_mirror(body)
    assert torch.equal(mirror.vertices[mirror.vertices], torch.arange(len(mirror.vertices)))
    assert torch.equal(mirror.joints[mirror.joints], torch.arange(14))
    assert mirror.joints[0] == 5  # right ankle, left ankle
    assert mirror.joints[12] == 12  # neck


def test_a_hand_has_no_other_side():
    with pytest.raises(ConfigError, match=r"views\.flip is for bodies: anny_hand is a right hand"):
        find_mirror(load_body("anny_hand"))


def test_a_mesh_that_is_not_symmetric_is_refused_by_name():
    body = ToyBody(TOY_BODY)
    body.template_vertices = body.template
    with pytest.raises(
        ConfigError, match=r"template of toy_body \d+ of 40 vertices have no partner"
    ):
        find_mirror(body)
