"""COCO, MuCo and MPII: rules of this project."""

import json
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from metro_ray.bodies.joints import J24
from metro_ray.data.raw import open_raw
from metro_ray.errors import DataError


def named(text):
    """`left_hip` -> `L_Hip`: the formats' names, written down here once more."""
    sides = {"left": "L", "right": "R"}
    return tuple("_".join(sides.get(w, w.capitalize()) for w in n.split("_")) for n in text.split())


COCO_KEYPOINTS = named(
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow "
    "right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle"
)
MPII_JOINTS = (
    *named("right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax neck"),
    "Top_of_Head",
    *named("right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist"),
)
MUCO_JOINTS = (
    "Head_top",
    *named("thorax right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist"),
    *named("right_hip right_knee right_ankle left_hip left_knee left_ankle pelvis spine head"),
    *named("right_hand left_hand right_toe left_toe"),
)


def flags(label):
    return [label[f"has_{kind}"] for kind in ("2d_joints", "3d_joints", "smpl")]


def fit_of(number):
    rng = np.random.default_rng(number)
    return rng.normal(0, 0.3, 72), rng.normal(0, 0.5, 10)


keypoint = st.tuples(st.integers(0, 160), st.integers(0, 120), st.integers(0, 2))
person = st.fixed_dictionaries(
    {
        "keypoints": st.lists(keypoint, min_size=17, max_size=17),
        "iscrowd": st.sampled_from([0, 0, 0, 1]),
        "bbox": st.tuples(*[st.floats(0, 100, width=32)] * 4),
    }
)


@settings(max_examples=30, deadline=None)
@given(people=st.lists(person, min_size=1, max_size=4))
def test_coco_keypoints_go_to_joints_of_their_name(folders, people):
    people = [
        {**each, "keypoints": np.ravel(each["keypoints"]).tolist(), "bbox": list(each["bbox"])}
        for each in people
    ]
    # One whole person, so that there is a row.
    people.append({"keypoints": [5, 6, 2] * 17, "bbox": [1.0, 2.0, 30.0, 40.0]})
    with tempfile.TemporaryDirectory() as folder:
        folders.coco(folder, people)
        dataset = open_raw("coco", folder, split="train2014")
        kept = [
            number
            for number, each in enumerate(people)
            if not each.get("iscrowd")
            and sum(v > 0 for v in each["keypoints"][2::3]) >= 6
            and each["bbox"][2] * each["bbox"][3] > 0
        ]
        assert len(dataset) + len(dataset.skipped) == len(people)
        assert [int(dataset.key(row).split("#")[1]) - 900 for row in range(len(dataset))] == kept
        for row, number in enumerate(kept):
            label = dataset.row(row).label
            assert flags(label) == [1, 0, 0]
            x, y, width, height = people[number]["bbox"]
            assert label["center"] == [x + width / 2, y + height / 2]
            assert label["scale"] == 1.2 * max(width, height) / 200
            given = dict(zip(COCO_KEYPOINTS, np.reshape(people[number]["keypoints"], (17, 3))))
            for joint, (px, py, confidence) in zip(J24.names, label["2d_joints"][0], strict=True):
                x, y, v = given.get(joint, (0, 0, 0))
                assert (px, py, confidence) == ((x, y, 1) if v > 0 else (0, 0, 0))


def test_coco_counts_what_it_leaves_out(folders, tmp_path):
    few = [9, 9, 1] * 5 + [0, 0, 0] * 12
    people = [{}, {"iscrowd": 1}, {"keypoints": few}, {"bbox": [1, 2, 0, 5]}, {"image_id": -1}]
    dataset = open_raw("coco", folders.coco(tmp_path, people), split="train2014")
    assert dict(dataset.skipped.counts) == {
        "of crowds": 1,
        "with fewer than 6 keypoints": 1,
        "without a box": 1,
        "whose image is not in the file": 1,
    }
    assert "no SMPL fits" in dataset.describe()
    assert len(open_raw("coco", tmp_path, split="train2014", min_keypoints=5)) == 2


def write_eft(path, numbers, smpltype="smpl"):
    data = []
    for number in numbers:
        pose, betas = fit_of(number)
        rotations = Rotation.from_rotvec(pose.reshape(24, 3)).as_matrix()
        data.append(
            {
                "annotId": number,
                "parm_pose": rotations.tolist(),
                "parm_shape": betas.tolist(),
                "smpltype": smpltype,
            }
        )
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"ver": 0.1, "data": data}))


def test_coco_takes_efts_fits_by_annotation(folders, truth, tmp_path):
    folders.coco(tmp_path)
    write_eft(tmp_path / "eft_fit" / "COCO2014-All-ver01.json", [901, 5555])
    dataset = open_raw("coco", tmp_path, split="train2014")
    assert "COCO2014-All-ver01.json for 1 rows" in dataset.describe()
    assert flags(dataset.row(0).label) == [1, 0, 0]
    label = dataset.row(1).label
    assert flags(label) == [1, 1, 1]
    pose, betas = fit_of(901)
    np.testing.assert_allclose(label["pose"], pose, atol=1e-6)
    np.testing.assert_allclose(label["betas"], betas, atol=1e-6)
    points = truth.joints24(pose, betas)
    np.testing.assert_allclose(label["3d_joints"][0, :, :3], points, atol=1e-5)
    without = open_raw("coco", tmp_path, split="train2014", fits=None)
    assert flags(without.row(1).label) == [1, 0, 0]
    np.testing.assert_array_equal(without.row(1).label["2d_joints"], label["2d_joints"])


@pytest.mark.parametrize(("offset_px", "good"), [(2.5, True), (3.2, False)])
def test_fits_with_a_camera_must_meet_the_keypoints(folders, truth, tmp_path, offset_px, good):
    """Within 3/64 of the box side: 3 px of a box of 64 px."""
    pose, betas = fit_of(900)
    points = truth.joints24(pose, betas)
    names = [J24.index(name) for name in COCO_KEYPOINTS]
    pixels = points[names, :2] * 20.0 + [70.0, 60.0] + [offset_px, 0.0]
    keypoints = np.column_stack([pixels, np.full(17, 2.0)])
    keypoints[3] = 0  # not annotated, not compared
    people = [{"keypoints": keypoints.ravel().tolist(), "bbox": [30.0, 30.0, 64.0, 50.0]}]
    folders.coco(tmp_path, people, split="train2017")
    fit = {"smpl_param": {"pose": pose.tolist(), "shape": betas.tolist()}}
    fit["cam_param"] = {"s": 20.0, "t": [70.0, 60.0]}
    path = tmp_path / "annotations" / "coco_smplify_train.json"
    path.write_text(json.dumps({"900": fit}))
    label = open_raw("coco", tmp_path, split="train2017").row(0).label
    assert flags(label) == [1, int(good), int(good)]
    # Without a camera there is nothing to compare with.
    del fit["cam_param"]
    path.write_text(json.dumps({"900": fit}))
    assert flags(open_raw("coco", tmp_path, split="train2017").row(0).label) == [1, 1, 1]


def test_fits_of_another_form_are_refused(folders, tmp_path):
    folders.coco(tmp_path)
    path = tmp_path / "fits.json"
    for content, words in (([], "JSON object"), ({"data": []}, "no fits"), ({"ver": 1}, "number")):
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=words):
            open_raw("coco", tmp_path, split="train2014", fits=path)
    write_eft(path, [900], smpltype="smplx")
    with pytest.raises(DataError, match="no fits in a known form"):
        open_raw("coco", tmp_path, split="train2014", fits=path)


@pytest.mark.parametrize("name", ["coco", "mpii"])
def test_npz_files_in_spins_layout(folders, truth, tmp_path, name):
    file, split = {
        "coco": ("coco_2014_train.npz", "train2014"),
        "mpii": ("mpii_train.npz", "train"),
    }[name]
    folders.spin_npz(tmp_path / file, rows=3, fits=True)
    with np.load(tmp_path / file) as arrays:
        npz = dict(arrays)
    dataset = open_raw(name, tmp_path, split=split)
    for row in range(3):
        label = dataset.row(row).label
        assert dataset.key(row) == f"pictures/{row}.jpg#{row}"
        assert label["center"] == npz["center"][row].tolist()
        assert label["scale"] == npz["scale"][row]
        np.testing.assert_array_equal(label["2d_joints"], npz["part"][row][None])
        assert flags(label) == [1, row % 2, row % 2]
        if row % 2:
            np.testing.assert_array_equal(label["pose"], npz["pose"][row])
            points = truth.joints24(npz["pose"][row], npz["shape"][row])
            np.testing.assert_allclose(label["3d_joints"][0, :, :3], points, atol=1e-6)


def test_npz_rows_without_keypoints_or_box_are_counted_and_s_is_used(folders, tmp_path):
    part = np.ones((3, 24, 3))
    part[1, :, 2] = 0
    joints = np.ones((3, 24, 4))
    changes = {"part": part, "scale": np.array([0.4, 0.4, 0.0]), "S": joints}
    folders.spin_npz(tmp_path / "mpii_train.npz", rows=3, **changes)
    dataset = open_raw("mpii", tmp_path, split="train")
    assert [row.row_id for row in dataset.skipped.rows()] == [1, 2]
    label = dataset.row(0).label
    assert flags(label) == [1, 1, 0]
    np.testing.assert_array_equal(label["3d_joints"], joints[:1])
    folders.spin_npz(tmp_path / "mpii_train.npz", part=np.ones((2, 14, 3)))
    with pytest.raises(DataError, match=r"part should be N x \(24, 3\), got \(2, 14, 3\)"):
        open_raw("mpii", tmp_path, split="train")


def test_muco_rows_are_the_nearest_person_of_each_picture(folders, tmp_path):
    dataset = open_raw("muco", folders.muco(tmp_path), split="train")
    assert len(dataset) == 2
    assert dict(dataset.skipped.counts) == {"of people behind the nearest": 2}
    annotations = json.loads((tmp_path / "MuCo-3DHP.json").read_text())["annotations"]
    for row in range(2):
        annotation, label = annotations[2 * row + 1], dataset.row(row).label
        assert dataset.key(row) == f"augmented_set/1/{row:06d}.jpg"
        x, y, width, height = annotation["bbox"]
        assert label["center"] == [x + width / 2, y + height / 2]
        assert label["scale"] == 1.2 * max(width, height) / 200
        placed = {"Head": "Head_top", "Neck": "Thorax", "Jaw": "Head"}
        for place, name in enumerate(J24.names):
            source = placed.get(name, name if name not in ("Thorax", "Top_of_Head") else None)
            if source not in MUCO_JOINTS:
                assert not label["2d_joints"][0, place].any()
                assert not label["3d_joints"][0, place].any()
                continue
            index = MUCO_JOINTS.index(source)
            pixel, point = annotation["keypoints_img"][index], annotation["keypoints_cam"][index]
            assert label["2d_joints"][0, place].tolist() == [*pixel, 1.0]
            np.testing.assert_allclose(label["3d_joints"][0, place, :3], np.array(point) / 1000)
            assert label["3d_joints"][0, place, 3] == 1
    # The fit of picture 0 is of that body, the one of picture 1 of another.
    assert flags(dataset.row(0).label) == [1, 1, 1]
    assert flags(dataset.row(1).label) == [1, 1, 0]
    assert not dataset.row(1).label["pose"].any()


def test_muco_fits_that_are_missing_or_nan_are_none(folders, tmp_path):
    folders.muco(tmp_path)
    path = tmp_path / "smpl_param.json"
    fits = json.loads(path.read_text())
    fits["1"]["pose"][3] = float("nan")
    del fits["11"]
    path.write_text(json.dumps(fits))
    dataset = open_raw("muco", tmp_path, split="train")
    assert "SMPL fits for 0 rows" in dataset.describe()
    assert [flags(dataset.row(row).label) for row in range(2)] == [[1, 1, 0]] * 2


def test_mpii_rows_follow_the_baselines(folders, tmp_path):
    dataset = open_raw("mpii", folders.mpii(tmp_path), split="valid")
    entries = json.loads((tmp_path / "annot" / "valid.json").read_text())
    for row, entry in enumerate(entries):
        label = dataset.row(row).label
        assert dataset.key(row) == f"images/{entry['image']}#{row}"
        assert flags(label) == [1, 0, 0]
        # Numbers count from 1; the box is 15 px x 0.4 further down and 1.25 times as large.
        assert label["center"] == [49.0, 65.0]
        assert label["scale"] == pytest.approx(0.5)
        given = dict(zip(MPII_JOINTS, entry["joints"]))
        for place, name in enumerate(J24.names):
            if name in given and name != "L_Wrist":
                expected = [given[name][0] - 1, given[name][1] - 1, 1.0]
            else:
                expected = [0, 0, 0]  # not MPII's, or not annotated
            np.testing.assert_allclose(label["2d_joints"][0, place], expected)


def test_mpii_counts_what_it_leaves_out(folders, tmp_path):
    people = [{}, {"scale": -1.0}, {"center": [-1.0, -1.0]}, {"joints_vis": [0] * 16}]
    dataset = open_raw("mpii", folders.mpii(tmp_path, people), split="train")
    assert len(dataset) == 1
    assert dict(dataset.skipped.counts) == {"without a box": 2, "without a single joint": 1}
