"""FreiHAND: METRO's rows from Pose2Mesh's files, and the published layout."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.data.raw import open_raw
from metro_ray.errors import ConfigError, DataError


def test_metro_rows_are_annotations_in_order(folders, tmp_path, pinhole):
    """File order, not the order of image ids (which run backwards here): METRO's sort is lost."""
    dataset = open_raw("freihand", folders.freihand_pose2mesh(tmp_path), split="train")
    assert "pose2mesh" in dataset.describe()
    assert [dataset.key(row) for row in range(4)] == [f"{n:08d}.jpg" for n in range(4)]
    assert len(dataset.skipped) == 0
    for sample in range(4):
        xyz, pose, betas = folders.hand_labels(sample)
        label = dataset.row(sample).label
        assert label["center"] == [112, 112]
        assert label["scale"] == 0.9
        np.testing.assert_array_equal(label["pose"], pose)
        np.testing.assert_array_equal(label["betas"], betas)
        assert np.shape(label["3d_joints"]) == (21, 4)
        np.testing.assert_allclose(label["3d_joints"][:, :3], xyz - xyz[0], atol=1e-15)
        assert np.shape(label["2d_joints"]) == (21, 3)
        np.testing.assert_allclose(label["2d_joints"][:, :2], pinhole(xyz), rtol=1e-12)
        assert (label["2d_joints"][:, 2] == 1).all()
        assert (label["3d_joints"][:, 3] == 1).all()
        assert [label[f"has_{kind}"] for kind in ("2d_joints", "3d_joints", "smpl")] == [1, 1, 1]
        assert label["hrnet_2d_joints"] == [[float(sample)] * 3] * 21
        assert label["has_hrnet_2d_joints"] == 1


def test_metro_test_rows_hold_ones_that_count_as_labels(folders, tmp_path):
    label = open_raw("freihand", folders.freihand_pose2mesh(tmp_path), split="test").row(2).label
    assert (label["pose"] == np.ones(48)).all()
    assert (label["betas"] == np.ones(10)).all()
    assert label["has_smpl"] == 1
    for kind, size in (("2d_joints", 3), ("3d_joints", 4)):
        assert label[f"has_{kind}"] == 0
        assert (label[kind] == np.zeros((21, size))).all()


FAULTS = {
    "whose record of HRNet is of another image": lambda r, i, a, d, h: h[r].update(image_id=-1),
    "with a box of less than a pixel": lambda r, i, a, d, h: a[r].update(bbox=[1, 2, 0.5, 9]),
    "without an entry in the data file": lambda r, i, a, d, h: d.pop(str(r)),
    "whose image is not in the file": lambda r, i, a, d, h: i[r].update(id=-5),
}


@settings(max_examples=25, deadline=None)
@given(
    faults=st.dictionaries(st.integers(0, 5), st.sampled_from(sorted(FAULTS)), max_size=5),
    short=st.booleans(),
)
def test_every_annotation_is_a_row_or_is_counted(folders, faults, short):
    def changes(part, images, annotations, data, detected):
        for row, fault in faults.items():
            FAULTS[fault](row, images, annotations, data, detected)
        if short:
            detected.pop()

    with tempfile.TemporaryDirectory() as folder:
        folders.freihand_pose2mesh(folder, samples=6, changes=changes)
        dataset = (
            open_raw("freihand", folder, split="train")
            if len(set(faults) | ({5} if short else set())) < 6
            else None
        )
        if dataset is None:
            return
        expected = dict(faults)
        if short and faults.get(5) != "whose image is not in the file":
            expected[5] = "without a record of HRNet"
        rows = [row for row in range(6) if row not in expected]
        assert [dataset.key(row) for row in range(len(dataset))] == [f"{r:08d}.jpg" for r in rows]
        assert len(dataset) + len(dataset.skipped) == 6
        assert {row.row_id: row.reason for row in dataset.skipped.rows()} == expected
        for place, row in enumerate(rows):
            pose = folders.hand_labels(row)[1]
            np.testing.assert_array_equal(dataset.row(place).label["pose"], pose)
        for reason, count in dataset.skipped.counts.items():
            assert f"{count} {reason}" in dataset.describe()


def test_a_data_set_without_a_row_says_why(folders, tmp_path):
    def changes(part, images, annotations, data, detected):
        detected.clear()

    folders.freihand_pose2mesh(tmp_path, changes=changes)
    with pytest.raises(DataError, match=r"not one annotation.*4 without a record of HRNet"):
        open_raw("freihand", tmp_path, split="train")


def test_published_training_rows_show_each_sample_four_times(folders, tmp_path, pinhole):
    dataset = open_raw("freihand", folders.freihand_official(tmp_path), split="train")
    assert "official" in dataset.describe()
    assert len(dataset) == 12
    for row in range(12):
        xyz, pose, betas = folders.hand_labels(row % 3)
        stored = dataset.row(row)
        assert stored.key == f"{row:08d}.jpg"
        file = tmp_path / "training" / "rgb" / stored.key
        assert stored.image_bytes == file.read_bytes()
        np.testing.assert_allclose(stored.label["2d_joints"][:, :2], pinhole(xyz), rtol=1e-12)
        np.testing.assert_allclose(stored.label["3d_joints"][:, :3], xyz - xyz[0], atol=1e-15)
        np.testing.assert_array_equal(stored.label["pose"], pose)
        np.testing.assert_array_equal(stored.label["betas"], betas)
        assert "hrnet_2d_joints" not in stored.label


def test_published_versions_can_be_chosen(folders, tmp_path):
    folders.freihand_official(tmp_path)
    chosen = open_raw("freihand", tmp_path, split="train", versions=("sample", "gs"))
    keys = [chosen.key(row) for row in range(len(chosen))]
    assert keys == [f"{n:08d}.jpg" for n in (6, 7, 8, 0, 1, 2)]
    np.testing.assert_array_equal(chosen.row(1).label["pose"], folders.hand_labels(1)[1])
    with pytest.raises(ConfigError, match="versions must be some of"):
        open_raw("freihand", tmp_path, split="train", versions=("green",))


def test_version_1_of_the_data_set_is_told(folders, tmp_path):
    folders.freihand_official(tmp_path, versions=1)
    with pytest.raises(DataError, match=r"00000003.jpg does not exist.*versions=\('gs',\)"):
        open_raw("freihand", tmp_path, split="train")
    assert len(open_raw("freihand", tmp_path, split="train", versions=("gs",))) == 3


@pytest.mark.parametrize("labels", [True, False])
def test_published_test_rows_have_the_labels_that_are_there(folders, tmp_path, labels):
    folders.freihand_official(tmp_path, test_labels=labels)
    label = open_raw("freihand", tmp_path, split="test").row(1).label
    flags = [label[f"has_{kind}"] for kind in ("2d_joints", "3d_joints", "smpl")]
    assert flags == [int(labels)] * 3
    if labels:
        np.testing.assert_array_equal(label["pose"], folders.hand_labels(1)[1])
    else:
        assert not label["pose"].any()


def test_both_layouts_agree(folders, tmp_path):
    folders.freihand_official(tmp_path, samples=4)
    folders.freihand_pose2mesh(tmp_path)
    published = open_raw("freihand", tmp_path, split="train", layout="official").row(2).label
    metro = open_raw("freihand", tmp_path, split="train").row(2).label
    for field, value in published.items():
        np.testing.assert_allclose(value, metro[field], rtol=1e-12)


def test_annotations_may_lie_elsewhere(folders, tmp_path):
    folders.freihand_pose2mesh(tmp_path / "data")
    (tmp_path / "data" / "pose2mesh_data").rename(tmp_path / "extra")
    folder, extra = tmp_path / "data", tmp_path / "extra"
    assert len(open_raw("freihand", folder, split="train", annotations=extra)) == 4
    with pytest.raises(DataError, match=r"freihand_train_coco.json.*Pose2Mesh"):
        open_raw("freihand", folder, split="train", layout="pose2mesh")


def test_hrnets_records_may_have_pose2meshs_name(folders, tmp_path):
    extra = folders.freihand_pose2mesh(tmp_path) / "pose2mesh_data"
    path = extra / "hrnet_output_on_hand_trainset.json"
    path.rename(extra / "hrnet_output_on_trainset.json")
    assert len(open_raw("freihand", tmp_path, split="train")) == 4
    (extra / "hrnet_output_on_trainset.json").unlink()
    with pytest.raises(DataError, match=r"hrnet_output_on_hand_trainset.json does not exist"):
        open_raw("freihand", tmp_path, split="train")


def test_labels_of_another_length_are_refused(folders, tmp_path):
    folders.freihand_official(tmp_path)
    path = Path(tmp_path) / "training_mano.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:2]))
    with pytest.raises(DataError, match="has 2 samples, expected 3"):
        open_raw("freihand", tmp_path, split="train")
