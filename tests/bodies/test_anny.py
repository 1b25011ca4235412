"""The open body and hand. Built once per machine (about ten seconds each), then from the cache."""

import math

import pytest
import torch
import trimesh

from metro_ray.bodies import load_body
from metro_ray.bodies.anny_joints import mirror_of

MM = 1000.0


@pytest.fixture(scope="module")
def body():
    return load_body("anny_body")


@pytest.fixture(scope="module")
def hand():
    return load_body("anny_hand")


@pytest.fixture(scope="module", params=["body", "hand"])
def either(request):
    return request.getfixturevalue(request.param)


def random_input(model, batch=8, spread=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pose = spread * torch.randn(batch, model.spec.num_pose, generator=generator)
    low, high = torch.tensor(list(model.beta_ranges.values())).T
    betas = low + (high - low) * torch.rand(batch, len(low), generator=generator)
    return pose, betas


def test_sizes_are_those_of_the_spec(either):
    spec = either.spec
    posed = either(*random_input(either, batch=2))
    assert posed.vertices.shape == (2, spec.num_vertices, 3)
    assert posed.joints.shape == (2, len(spec.label_joints), 3)
    assert either.template_tokens().shape == (spec.num_tokens, 3)
    assert len(either.pose_names) * 3 == spec.num_pose
    assert len(either.beta_names) == spec.num_betas
    assert either.vertex_parts.shape == (spec.num_vertices,)
    for level, count in enumerate(spec.vertex_levels):
        assert either.downsample(posed.vertices, level).shape == (2, count, 3)
        assert either.level_faces(level).max() == count - 1


def test_neutral_body_is_a_grown_up_and_neutral_hand_has_a_hands_size(body, hand):
    height = torch.aminmax(body.template_vertices[:, 1])
    assert 1.6 < float(height.max - height.min) < 1.9
    length = torch.aminmax(hand.template_vertices[:, 0])
    assert 0.16 < float(length.max - length.min) < 0.24


def test_body_is_one_closed_surface_that_faces_outwards(body):
    """So are its levels; the hand ends open at the wrist."""
    vertices = body.template_vertices[None]
    for level in range(len(body.spec.vertex_levels)):
        at = body.downsample(vertices, level)[0].numpy()
        mesh = trimesh.Trimesh(at, body.level_faces(level).numpy(), process=False)
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert 0.04 < mesh.volume < 0.12  # cubic metres


def test_label_orientation_stands_upright_and_faces_the_camera(body):
    """Camera frame: x right, y down, z away."""
    pose = torch.zeros(1, 60)
    pose[0, 0] = math.pi
    posed = body(pose, body.neutral_betas[None])
    joint = dict(zip(body.spec.label_joints.names, posed.joints[0], strict=True))
    assert joint["Top_of_Head"][1] < joint["Pelvis"][1] < joint["L_Ankle"][1]
    assert joint["Nose"][2] < joint["L_Ear"][2]
    assert joint["L_Shoulder"][0] > 0 > joint["R_Shoulder"][0]


def test_right_hand_lies_as_manos(hand):
    joint = dict(zip(hand.spec.label_joints.names, hand.template_joints, strict=True))
    assert joint["Middle_4"][0] < joint["Middle_1"][0] < joint["Wrist"][0]
    assert joint["Index_1"][2] > joint["Pinky_1"][2]
    assert joint["Thumb_4"][2] > joint["Index_4"][2]
    assert joint["Middle_4"][1] < joint["Middle_1"][1]  # half bent, towards the palm below


def test_metros_flip_rule_gives_the_mirrored_mesh(body):
    pose, betas = random_input(body)
    flipped = pose.view(-1, 20, 3).clone()
    for left, right in body.spec.pose_flip_pairs:
        flipped[:, [left, right]] = flipped[:, [right, left]]
    flipped[..., 1:] *= -1
    mirror = mirror_of(body.template_vertices.numpy())
    sign = torch.tensor([-1.0, 1.0, 1.0])
    there, back = body(pose, betas), body(flipped.view(-1, 60), betas)
    distance = (back.vertices[:, mirror] * sign - there.vertices).norm(dim=-1)
    assert distance.max() * MM < 0.1
    joints = back.joints.clone()
    for left, right in body.spec.label_flip_pairs:
        joints[:, [left, right]] = joints[:, [right, left]]
    assert (joints * sign - there.joints).norm(dim=-1).max() * MM < 0.1


def test_regressed_joints_follow_the_rig(either):
    """Shapes and poses that the regressors were not fitted to, at the height where the rig fits."""
    pose, betas = random_input(either, batch=16, seed=7)
    betas[:, either.beta_names.index("height")] = 0.5
    regressed, rig = either(pose, betas).joints, either.chain_joints(pose, betas)
    if either.spec.kind == "body":
        bones = {"Ankle": "foot", "Knee": "lowerleg01", "Hip": "upperleg01", "Wrist": "wrist"}
        bones |= {"Elbow": "lowerarm01", "Shoulder": "upperarm01"}
        pairs = {
            f"{side}_{name}": f"{bone}.{side}" for name, bone in bones.items() for side in "LR"
        }
        pairs["Spine"], pairs["Jaw"] = "spine02", "head"
    else:
        fingers = enumerate(("Thumb", "Index", "Middle", "Ring", "Pinky"), start=1)
        pairs = {f"{name}_{p}": f"finger{f}-{p}.R" for f, name in fingers for p in (1, 2, 3)}
        pairs["Wrist"] = "wrist.R"
    at = regressed[:, [either.spec.label_joints.index(joint) for joint in pairs]]
    error = (at - rig[:, [either.pose_names.index(bone) for bone in pairs.values()]]).norm(dim=-1)
    # Hips and shoulders lie deep under skin that linear blend skinning pulls about: 12 and 9 mm.
    mean, worst = {"body": (7, 15), "hand": (1, 2)}[either.spec.kind]
    assert error.mean() * MM < mean
    assert error.mean(dim=0).max() * MM < worst


def test_regressors_are_convex_and_evaluation_picks_label_rows(either):
    rows = either.label_regressor
    torch.testing.assert_close(rows.sum(dim=1), torch.ones(len(rows)))
    assert rows.min() >= 0
    assert torch.equal(either.joint_regressor, rows[list(either.spec.label_to_joints)])
    assert torch.equal(either.root_regressor[0], rows[either.spec.root_label_joint])


def test_levels_keep_the_mesh(either):
    """Down to the coarsest level and up again, on people in motion: the loss that is stated."""
    vertices = either(*random_input(either)).vertices
    again = either.downsample(vertices, 0)
    for matrix in either.upsampling_matrices():
        again = torch.from_numpy(matrix) @ again
    error = (again - vertices).norm(dim=-1) * MM
    assert error.mean() < {"body": 8.0, "hand": 2.5}[either.spec.kind]


def test_root_turns_about_the_origin(either):
    pose, betas = random_input(either)
    torch.testing.assert_close(either.chain_joints(pose, betas)[:, 0], torch.zeros(8, 3))
    still = pose.clone()
    still[:, :3] = 0
    turned, plain = either(pose, betas).vertices, either(still, betas).vertices
    torch.testing.assert_close(turned.norm(dim=-1), plain.norm(dim=-1), atol=1e-5, rtol=0)


def test_phenotypes_do_what_they_say(body):
    def size(name, value, axis, part=slice(None)):
        betas = body.neutral_betas.clone()[None]
        betas[0, body.beta_names.index(name)] = value
        extent = torch.aminmax(body(torch.zeros(1, 60), betas).vertices[0, part], dim=0)
        return float((extent.max - extent.min)[axis])

    belly = body.vertex_parts == body.part_names.index("spine04")

    assert size("height", 0.9, 1) > size("height", 0.5, 1) + 0.1
    assert size("weight", 1.0, 0, belly) > size("weight", 0.0, 0, belly) + 0.05
    assert size("age", 0.45, 1) < size("age", 0.67, 1) - 0.1
    assert size("height", 1.5, 1) == size("height", 1.0, 1)


def test_gradients_flow(either):
    pose = torch.zeros(1, either.spec.num_pose, requires_grad=True)
    betas = either.neutral_betas.clone()[None].add(0.03).requires_grad_()
    either(pose, betas).vertices.square().sum().backward()
    assert pose.grad.isfinite().all()
    assert (pose.grad.view(-1, 3).norm(dim=1)[1:] > 0).all()
    assert (betas.grad != 0).all()


def test_float32_is_close_to_float64(either):
    pose, betas = random_input(either, batch=2)
    single = either(pose, betas).vertices
    double = either.double()(pose.double(), betas.double()).vertices
    either.float()
    torch.testing.assert_close(single.double(), double, atol=5e-6, rtol=0)


def test_parts_lie_where_their_names_say(body):
    rest = body(torch.zeros(1, 60), body.neutral_betas[None]).vertices[0]
    centre = {
        name: rest[body.vertex_parts == part].mean(dim=0)
        for part, name in enumerate(body.part_names)
    }
    for name, place in centre.items():
        if name.endswith(".L"):
            assert place[0] > 0, name
            torch.testing.assert_close(
                centre[name[:-1] + "R"] * torch.tensor([-1.0, 1, 1]), place, atol=2e-3, rtol=0
            )
    assert (
        centre["head"][1] > centre["spine01"][1] > centre["upperleg01.L"][1] > centre["foot.L"][1]
    )
