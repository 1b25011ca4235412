"""Human3.6M: which sub-action, which fits count, and what is left out."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from metro_ray.bodies.joints import J17, J24
from metro_ray.data.raw import open_raw
from metro_ray.data.raw.human36m_names import parse_name
from metro_ray.errors import DataError


def flags(label):
    return [label[f"has_{kind}"] for kind in ("2d_joints", "3d_joints", "smpl")]


def test_a_matched_row_has_everything(folders, pinhole, tmp_path):
    folder = folders.human36m(tmp_path)
    dataset = open_raw("human36m", folder, split="train")
    with np.load(folder / "h36m_train_protocol1.npz") as arrays:
        npz = dict(arrays)
    assert len(dataset) == 2
    for row in range(2):
        pose, betas, points = folders.human36m_motion(row + 1)
        label = dataset.row(row).label
        assert dataset.key(row) == f"images/S5_Directions_1.54138969_{row + 1:06d}.jpg"
        assert label["center"] == npz["center"][row].tolist()
        assert label["scale"] == npz["scale"][row]
        np.testing.assert_array_equal(label["3d_joints"], npz["S"][row][None])
        assert flags(label) == [1, 1, 1]
        assert "gender" not in label
        np.testing.assert_allclose(label["pose"], pose, atol=1e-5)  # turned back into the camera
        np.testing.assert_array_equal(label["betas"], np.float32(betas))
        keypoints = label["2d_joints"]
        assert keypoints.shape == (1, 24, 3)
        shared = [name for name in J24.names if name in J17.names]
        assert len(shared) == 16
        assert keypoints[0, :, 2].sum() == 16
        for name in shared:
            pixel = pinhole(points[[J17.index(name)]])[0]
            np.testing.assert_allclose(keypoints[0, J24.index(name), :2], pixel, atol=1e-2)


def test_the_nearer_sub_action_is_taken(folders, tmp_path):
    other = folders.human36m_motion(7)
    right = folders.human36m_motion(1)
    for best, subs in ((1, {1: right, 2: other}), (2, {1: other, 2: right})):
        motion = {sub: (points, pose, betas) for sub, (pose, betas, points) in subs.items()}
        row = ("images/S5_Directions_1.54138969_000001.jpg", right[2], motion)
        folder = folders.human36m(tmp_path / str(best), [row])
        label = open_raw("human36m", folder, split="train").row(0).label
        np.testing.assert_allclose(label["pose"], right[0], atol=1e-5)


@pytest.mark.parametrize(("offset_mm", "matched"), [(48.0, True), (52.0, False)])
def test_a_motion_matches_up_to_a_sum_of_50_mm(folders, pinhole, tmp_path, offset_mm, matched):
    pose, betas, points = folders.human36m_motion(1)
    moved = points.copy()
    moved[J17.index("R_Wrist")] += [offset_mm / 2, 0, 0]
    moved[J17.index("Neck")] += [0, -offset_mm / 2, 0]  # the last of the 13
    moved[J17.index("Head")] += 400.0  # joint 18 is not compared
    row = ("images/S5_Directions_1.54138969_000001.jpg", points, {1: (moved, pose, betas)})
    label = open_raw("human36m", folders.human36m(tmp_path, [row]), split="train").row(0).label
    assert flags(label) == [1, 1, int(matched)]
    assert label["pose"].any() == matched
    pixel = pinhole(moved[[J17.index("R_Wrist")]])[0]  # 2D joints come from it all the same
    np.testing.assert_allclose(label["2d_joints"][0, J24.index("R_Wrist"), :2], pixel, atol=1e-2)


@pytest.mark.parametrize(("offset_mm", "good"), [(48.0, True), (52.0, False)])
def test_a_fit_counts_up_to_50_mm_on_average(folders, tmp_path, offset_mm, good):
    """The joints are moved half up and half down, so aligning their means changes nothing."""
    pose, betas, points = folders.human36m_motion(1)
    moved = points.copy()
    names = [J24.names[place] for place in (*range(13), 18)]
    for place, name in enumerate(names):
        moved[J17.index(name)] += [0, offset_mm if place % 2 else -offset_mm, 0]
    row = ("images/S5_Directions_1.54138969_000001.jpg", moved, {1: (moved, pose, betas)})
    label = open_raw("human36m", folders.human36m(tmp_path, [row]), split="train").row(0).label
    assert flags(label) == [1, 1, int(good)]


def test_a_shape_far_from_the_average_becomes_the_average(folders, truth, tmp_path):
    pose, betas, _ = folders.human36m_motion(1)
    points = truth.joints17(pose, np.zeros(10)) * 1000 + [0, 0, 4000.0]
    far = betas.copy()
    far[4] = -3.01
    row = ("images/S5_Directions_1.54138969_000001.jpg", points, {1: (points, pose, far)})
    label = open_raw("human36m", folders.human36m(tmp_path, [row]), split="train").row(0).label
    assert flags(label) == [1, 1, 1]
    assert not label["betas"].any()


def test_rows_without_a_fit_or_without_joints(folders, tmp_path):
    rows = [
        folders.human36m_row(1, fit=False),
        folders.human36m_row(2, subs=()),
        folders.human36m_row(3),
    ]
    dataset = open_raw("human36m", folders.human36m(tmp_path, rows), split="train")
    assert [flags(dataset.row(row).label) for row in range(2)] == [[1, 1, 0], [1, 1, 1]]
    assert dataset.row(0).label["pose"].tolist() == [0.0] * 72
    (left_out,) = dataset.skipped.rows()
    assert left_out.row_id == 1
    assert left_out.reason == "without Pose2Mesh's joints of sub-action 1 or 2"
    np.testing.assert_allclose(dataset.row(1).label["center"], [52.5, 60.25])


def test_names_that_mean_nothing_are_counted(folders, tmp_path):
    rows = [folders.human36m_row(frame) for frame in range(1, 5)]

    def changes(arrays):
        names = arrays["imgname"].astype("U")
        names[1] = "images/S5_Jumping_1.54138969_000002.jpg"
        names[2] = "images/S5_Directions_1.11111111_000003.jpg"
        names[3] = "images/frame.jpg"
        arrays["imgname"] = names  # text instead of bytes is read as well

    dataset = open_raw("human36m", folders.human36m(tmp_path, rows, changes), split="valid")
    assert len(dataset) == 1
    assert dict(dataset.skipped.counts) == {
        "of an action that METRO does not know": 1,
        "of an unknown camera": 1,
        "whose name is not S<subject>_<action>.<camera>_<frame>": 1,
    }


def test_validation_rows_have_3d_joints_only_and_need_no_pose2mesh(folders, tmp_path):
    folder = folders.human36m(tmp_path)
    (folder / "pose2mesh_data").rename(tmp_path / "elsewhere")
    label = open_raw("human36m", folder, split="valid", assets_root=tmp_path).row(0).label
    assert flags(label) == [0, 1, 0]
    assert (label["2d_joints"] == np.zeros((1, 24, 3))).all()
    assert label["pose"].tolist() == [0.0] * 72
    assert label["betas"].tolist() == [0.0] * 10
    again = open_raw("human36m", folder, split="train", annotations=tmp_path / "elsewhere")
    assert flags(again.row(0).label) == [1, 1, 1]
    with pytest.raises(DataError, match=r"Human36M_subject5_camera.json does not exist.*Pose2Mesh"):
        open_raw("human36m", folder, split="train")


def test_an_npz_without_an_array_is_told(folders, tmp_path):
    folder = folders.human36m(tmp_path, changes=lambda arrays: arrays.pop("S"))
    with pytest.raises(DataError, match=r"h36m_valid_protocol2.npz lacks S; it has"):
        open_raw("human36m", folder, split="valid")


def test_names():
    name = parse_name("images/S11_WalkingDog.60457274_000101.jpg")
    assert name is not None
    assert (name.subject, name.action_number, name.camera, name.frame) == (11, 15, 4, 100)
    assert parse_name("S1_Photo_2.55011271_000001.jpg").action_number == 12
    assert parse_name("images/S11_Walk.jpg") is None


def test_zero_root_rotation_is_only_the_camera(folders, tmp_path):
    """METRO divides by the angle and gets NaN."""
    rotation, _ = folders.human36m_camera()
    pose, betas, _ = folders.human36m_motion(1)
    pose = pose.copy()
    pose[:3] = Rotation.from_matrix(rotation).as_rotvec()  # zero in the world
    points = folders.truth.joints17(pose, betas) * 1000 + [0, 0, 4000.0]
    row = ("images/S5_Directions_1.54138969_000001.jpg", points, {1: (points, pose, betas)})
    label = open_raw("human36m", folders.human36m(tmp_path, [row]), split="train").row(0).label
    np.testing.assert_allclose(label["pose"], pose, atol=1e-5)
