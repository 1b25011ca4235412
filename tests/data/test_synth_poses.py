"""Random poses: what is asked for in words comes out of the body model."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from metro_ray.bodies import load_body
from metro_ray.bodies.anny_build import BODY_BONES
from metro_ray.data import synth_hand_poses
from metro_ray.data.synth_hand_poses import FINGERS, HandRest, sample_hand_pose
from metro_ray.data.synth_limbs import Arm, BodyRest, Leg, arm_pose, leg_pose
from metro_ray.data.synth_poses import sample_body_pose
from metro_ray.data.synth_scene import mean_betas, sample_scene


def _joints(body, pose):
    """Label joints by name; y up, z to the front for a zero first row."""
    betas = torch.from_numpy(mean_betas()).float()[None]
    with torch.no_grad():
        posed = body(torch.from_numpy(np.ascontiguousarray(pose).ravel()).float()[None], betas)
    return dict(zip(body.spec.label_joints.names, posed.joints[0].double().numpy(), strict=True))


@pytest.fixture(scope="module")
def body():
    return load_body("anny_body")


@pytest.fixture(scope="module")
def hand():
    return load_body("anny_hand")


@pytest.fixture(scope="module")
def body_rest(body):
    return BodyRest.from_joints(_joints(body, np.zeros(60)))


@pytest.fixture(scope="module")
def hand_rest(hand):
    return HandRest.from_joints(np.stack(list(_joints(hand, np.zeros(48)).values())))


def _left_limb(body, rotations):
    """Joints of a person whose left limb is posed and all else at rest."""
    pose = np.zeros((len(BODY_BONES), 3))
    for bone, rotation in rotations.items():
        pose[BODY_BONES.index(f"{bone}.L")] = rotation
    return _joints(body, pose)


def _angle(a, b):
    return np.rad2deg(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))


@pytest.mark.parametrize(
    ("elevation", "azimuth", "direction"),
    [(0, 0, [0, -1, 0]), (90, 0, [1, 0, 0]), (90, 90, [0, 0, 1]), (160, 0, [0.34, 0.94, 0])],
)
def test_upper_arms_point_where_they_are_told(body, body_rest, elevation, azimuth, direction):
    arm = Arm(elevation, azimuth, elbow=10, turn=0)
    joints = _left_limb(body, arm_pose(np.random.default_rng(0), arm, body_rest))
    upper = joints["L_Elbow"] - joints["L_Shoulder"]
    assert _angle(upper, np.array(direction)) < 15


@pytest.mark.parametrize("bend", [10, 90, 130])
def test_elbows_and_knees_bend_by_the_angle_and_the_right_way(body, body_rest, bend):
    rng = np.random.default_rng(0)
    arm = Arm(elevation=5, azimuth=0, elbow=bend, turn=0)
    joints = _left_limb(body, arm_pose(rng, arm, body_rest))
    upper, fore = joints["L_Elbow"] - joints["L_Shoulder"], joints["L_Wrist"] - joints["L_Elbow"]
    assert _angle(upper, fore) == pytest.approx(bend, abs=12)
    assert fore[2] > upper[2]  # the hand comes to the front
    leg = Leg(flexion=0, abduction=0, turn=0, knee=bend)
    joints = _left_limb(body, leg_pose(rng, leg, body_rest))
    thigh, shin = joints["L_Knee"] - joints["L_Hip"], joints["L_Ankle"] - joints["L_Knee"]
    assert _angle(thigh, shin) == pytest.approx(bend, abs=12)
    assert shin[2] < thigh[2]  # the heel goes to the back


def test_a_lifted_thigh_goes_to_the_front(body, body_rest):
    leg = Leg(flexion=85, abduction=0, turn=0, knee=85)
    joints = _left_limb(body, leg_pose(np.random.default_rng(0), leg, body_rest))
    thigh = joints["L_Knee"] - joints["L_Hip"]
    assert _angle(thigh, np.array([0, 0, 1.0])) < 20
    assert joints["L_Ankle"][1] < joints["L_Knee"][1] - 0.2


def test_random_people_are_upright_varied_and_within_limits(body, body_rest):
    poses = np.stack([sample_body_pose(np.random.default_rng(i), body_rest) for i in range(60)])
    assert np.isfinite(poses).all()
    assert (poses[:, 0] == 0).all()
    assert np.linalg.norm(poses, axis=2).max() < np.pi
    knees = np.rad2deg(np.linalg.norm(poses[:, BODY_BONES.index("lowerleg01.L")], axis=1))
    assert knees.max() <= 135.1
    assert knees.std() > 15
    for pose in poses[:20]:
        joints = _joints(body, pose)
        assert joints["Head"][1] > joints["Pelvis"][1] + 0.3
        assert joints["Head"][1] > joints["L_Knee"][1]


@pytest.mark.parametrize("curled", FINGERS)
def test_the_finger_that_is_told_to_curl_does(hand, hand_rest, monkeypatch, curled):
    """Only its tip moves, and into the palm: bones and fingers are matched."""

    def tips(curls):
        monkeypatch.setattr(synth_hand_poses, "_sample_grip", lambda rng: (curls, 0.0))
        joints = _joints(hand, sample_hand_pose(np.random.default_rng(1), hand_rest))
        return np.stack([joints[f"{finger}_4"] for finger in FINGERS])

    curls = np.array([0.5 if finger == curled else 0.0 for finger in FINGERS])
    moved = tips(curls) - tips(np.zeros(5))
    length = np.linalg.norm(moved, axis=1)
    which = FINGERS.index(curled)
    assert length[which] > 0.03
    assert np.delete(length, which).max() < 0.01
    if curled != "Thumb":
        assert moved[which] @ hand_rest.palm > 0.02


def test_spread_fingers_are_apart(hand, hand_rest, monkeypatch):
    def gaps(spread):
        monkeypatch.setattr(synth_hand_poses, "_sample_grip", lambda rng: (np.zeros(5), spread))
        joints = _joints(hand, sample_hand_pose(np.random.default_rng(1), hand_rest))
        tips = np.stack([joints[f"{finger}_4"] for finger in FINGERS[1:]])
        return np.linalg.norm(np.diff(tips, axis=0), axis=1)

    assert (gaps(12.0) > gaps(0.0) + 0.005).all()


def test_the_palm_is_where_the_fingers_bend_to(hand_rest):
    assert abs(hand_rest.fingers @ hand_rest.palm) < 0.1
    np.testing.assert_allclose(np.linalg.norm(hand_rest.palm), 1)


@pytest.mark.parametrize(
    ("view", "least", "most"), [("front", 5, 35), ("wide", 35, 80), ("full", 75, 120)]
)
def test_views_are_as_wide_as_named(body_rest, view, least, most):
    turned = []
    for index in range(200):
        scene = sample_scene(np.random.default_rng(index), body_rest, view=view, num_betas=6)
        front = Rotation.from_rotvec(scene.pose[:3]).apply([0, 0, 1])
        up = Rotation.from_rotvec(scene.pose[:3]).apply([0, 1, 0])
        assert up[1] < -0.8  # y points down
        turned.append(np.rad2deg(np.arctan2(front[0], -front[2])))  # 0: looks at the camera
    assert least < np.std(turned) < most


def test_front_views_of_hands_show_the_palm(hand_rest):
    seen = []
    for index in range(50):
        scene = sample_scene(np.random.default_rng(index), hand_rest, view="front", num_betas=6)
        turn = Rotation.from_rotvec(scene.pose[:3])
        seen.append((turn.apply(hand_rest.palm)[2], turn.apply(hand_rest.fingers)[1]))
    palm_z, fingers_y = np.mean(seen, axis=0)
    assert palm_z < -0.7  # towards the camera
    assert fingers_y < -0.6  # up


def test_another_body_model_is_refused(body_rest):
    with pytest.raises(ValueError, match="expected 6 phenotypes"):
        sample_scene(np.random.default_rng(0), body_rest, view="wide", num_betas=10)
