"""3DPW: METRO's rows from Pose2Mesh's JSON, and the same from 3DPW's own sequence files."""

import json
import os
import pickle

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from metro_ray.data.raw import open_raw
from metro_ray.errors import DataError


def test_metro_rows(folders, truth, pinhole, tmp_path):
    dataset = open_raw("3dpw", folders.threedpw_pose2mesh(tmp_path), split="train")
    assert "pose2mesh" in dataset.describe()
    annotations = json.loads((tmp_path / "3DPW_train.json").read_text())["annotations"]
    assert len(dataset) == len(annotations)
    for row, annotation in enumerate(annotations):  # file order, though ids run backwards
        smpl, label = annotation["smpl_param"], dataset.row(row).label
        assert dataset.key(row) == f"street_00/image_{row:05d}.jpg"
        x, y, width, height = annotation["bbox"]
        assert label["center"] == [x + width / 2, y + height / 2]
        assert label["scale"] == 1.2 * max(width, height) / 200
        np.testing.assert_array_equal(label["pose"], np.float32(smpl["pose"]))
        np.testing.assert_array_equal(label["betas"], np.float32(smpl["shape"]))
        joints = truth.joints24(smpl["pose"], smpl["shape"])
        assert np.shape(label["3d_joints"]) == (1, 24, 4)
        np.testing.assert_allclose(label["3d_joints"][0, :, :3], joints, atol=1e-6)
        assert (label["3d_joints"][..., 3] == 1).all()
        assert np.shape(label["2d_joints"]) == (24, 3)
        pixels = pinhole(joints + smpl["trans"])
        np.testing.assert_allclose(label["2d_joints"][:, :2], pixels, atol=1e-3)
        assert (label["2d_joints"][:, 2] == 1).all()
        assert [label[f"has_{kind}"] for kind in ("2d_joints", "3d_joints", "smpl")] == [1, 1, 1]
        assert label["gender"] == smpl["gender"]


def test_an_annotation_without_its_image_is_counted(folders, tmp_path):
    folders.threedpw_pose2mesh(tmp_path)
    path = tmp_path / "3DPW_train.json"
    content = json.loads(path.read_text())
    content["images"].pop(1)
    path.write_text(json.dumps(content))
    dataset = open_raw("3dpw", tmp_path, split="train")
    assert len(dataset) == 2
    assert dict(dataset.skipped.counts) == {"whose image is not in the file": 1}
    assert dataset.key(1) == "street_00/image_00002.jpg"


def test_a_missing_field_is_named(folders, tmp_path):
    folders.threedpw_pose2mesh(tmp_path)
    path = tmp_path / "3DPW_train.json"
    content = json.loads(path.read_text())
    del content["annotations"][2]["smpl_param"]["trans"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotation 7, smpl_param lacks the field 'trans'"):
        open_raw("3dpw", tmp_path, split="train")


def test_sequence_files_show_the_body_where_the_camera_sees_it(folders, truth, pinhole, tmp_path):
    """2D joints are those of the world's body, posed and moved there, then seen by the camera."""
    content = folders.threedpw_sequence()
    dataset = open_raw("3dpw", folders.threedpw_official(tmp_path, [content]), split="train")
    assert "official" in dataset.describe()
    people = [(frame, person) for frame in range(3) for person in range(2)]
    people.remove((1, 1))  # its camera pose is not valid
    assert len(dataset) == 5
    assert dict(dataset.skipped.counts) == {"without a valid camera pose": 1}
    for row, (frame, person) in enumerate(people):
        camera = content["cam_poses"][frame]
        pose, betas = content["poses"][person][frame], content["betas"][person][:10]
        world = truth.joints24(pose, betas) + content["trans"][person][frame]
        seen = world @ camera[:3, :3].T + camera[:3, 3]
        label = dataset.row(row).label
        assert dataset.key(row) == f"street_00/image_{frame:05d}.jpg"
        np.testing.assert_allclose(label["2d_joints"][:, :2], pinhole(seen), atol=2e-3)
        relative = label["3d_joints"][0, :, :3] - label["3d_joints"][0, 14, :3]
        np.testing.assert_allclose(relative, seen - seen[14], atol=1e-5)
        root = Rotation.from_rotvec(label["pose"][:3]).as_matrix()
        turned = camera[:3, :3] @ Rotation.from_rotvec(pose[:3]).as_matrix()
        np.testing.assert_allclose(root, turned, atol=1e-6)
        np.testing.assert_array_equal(label["pose"][3:], np.float32(pose[3:]))
        assert label["gender"] == ("female", "male")[person]
        joints = content["jointPositions"][person][frame].reshape(24, 3)
        pixels = pinhole(joints @ camera[:3, :3].T + camera[:3, 3])
        inside = pixels[((pixels >= 0) & (pixels < [160, 120])).all(axis=1)]
        low, high = inside.min(axis=0), inside.max(axis=0)
        np.testing.assert_allclose(label["center"], (low + high) / 2)
        assert label["scale"] == pytest.approx(1.2 * 1.2 * (high - low).max() / 200)


def test_sequences_come_in_the_order_of_their_names(folders, tmp_path):
    contents = [folders.threedpw_sequence(frames=2, seed=seed) for seed in (11, 3)]
    dataset = open_raw("3dpw", folders.threedpw_official(tmp_path, contents), split="validation")
    names = [dataset.key(row).split("/")[0] for row in range(len(dataset))]
    assert names == sorted(names)
    assert set(names) == {"street_03", "street_11"}


def test_people_outside_the_picture_are_counted(folders, tmp_path):
    content = folders.threedpw_sequence()
    content["jointPositions"][0][2] += 1000.0
    dataset = open_raw("3dpw", folders.threedpw_official(tmp_path, [content]), split="test")
    assert dataset.skipped.counts["with no joint inside the picture"] == 1
    assert len(dataset) == 4


class _Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_a_sequence_file_cannot_run_code(folders, tmp_path, monkeypatch):
    folders.threedpw_official(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sequenceFiles" / "train" / "street_00.pkl"
    path.write_bytes(pickle.dumps({"sequence": _Harmful()}, protocol=2))
    with pytest.raises(DataError, match=r"is refused: it names posix.system"):
        open_raw("3dpw", tmp_path, split="train")
    assert not (tmp_path / "harmed").exists()


def test_neither_layout_there(folders, tmp_path):
    (tmp_path / "imageFiles").mkdir()
    with pytest.raises(DataError, match=r"holds no sequence files.*virtualhumans"):
        open_raw("3dpw", tmp_path, split="train")
    with pytest.raises(DataError, match=r"3DPW_train.json does not exist.*Pose2Mesh"):
        open_raw("3dpw", tmp_path, split="train", layout="pose2mesh")
