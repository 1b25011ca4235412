"""Every raw data set keeps the contract of stored rows, whatever it is."""

import pickle

import cv2
import fsspec
import numpy as np
import pytest

from metro_ray.bodies.spec import get_spec
from metro_ray.data.convert import convert
from metro_ray.data.dataset import open_dataset
from metro_ray.data.labels import parse_label
from metro_ray.data.raw import RAW, open_raw
from metro_ray.data.transform import SampleTransform
from metro_ray.errors import AssetNotFoundError, ConfigError, DataError

LAYOUTS = {
    "freihand": ("freihand_official", "freihand_pose2mesh"),
    "3dpw": ("threedpw_official", "threedpw_pose2mesh"),
    "human36m": ("human36m",),
    "up3d": ("up3d",),
    "coco": ("coco", "coco_spin"),
    "muco": ("muco",),
    "mpii": ("mpii", "mpii_spin"),
}
CASES = [
    (name, layout, split)
    for name, layouts in LAYOUTS.items()
    for layout in layouts
    for split in RAW[name].splits
    if not (layout == "threedpw_pose2mesh" and split == "validation")
    and not (layout == "coco_spin" and split != "train2014")
    and not (layout == "mpii_spin" and split != "train")
]


def write(folders, layout, folder, split):
    if layout == "coco":
        return folders.coco(folder, split=split)
    if layout == "coco_spin":
        return folders.spin_npz(folder / "coco_2014_train.npz", fits=True)
    if layout == "mpii_spin":
        return folders.spin_npz(folder / "mpii_train.npz")
    return getattr(folders, layout)(folder)


def test_every_raw_data_set_is_tested():
    assert set(LAYOUTS) == set(RAW)


@pytest.mark.parametrize(("name", "layout", "split"), CASES)
def test_rows_are_labels_and_samples_of_the_spec(folders, tmp_path, name, layout, split):
    dataset = open_raw(name, write(folders, layout, tmp_path, split), split=split)
    spec = get_spec(RAW[name].spec)
    transform = SampleTransform(spec, train=True)
    assert len(dataset) > 0
    for row_id in range(len(dataset)):
        row = dataset.row(row_id)
        label = parse_label(row.label, spec)
        sample = transform(row, row_id)
        assert row.key == dataset.key(row_id)
        assert sample.valid
        assert sample.image.any()
        # A flag that is set has something behind it.
        assert not label.has_keypoints_2d or label.keypoints_2d[:, 2].any()
        assert not label.has_joints_3d or label.joints_3d[:, 3].any()
        assert not label.has_mesh or label.pose.any()
        has = (label.has_keypoints_2d, label.has_joints_3d, label.has_mesh)
        assert has == (sample.has_keypoints_2d, sample.has_joints_3d, sample.has_mesh)


@pytest.mark.parametrize("name", RAW)
def test_data_sets_pickle_and_report_themselves(folders, tmp_path, name):
    split = RAW[name].splits[0]
    dataset = open_raw(name, write(folders, LAYOUTS[name][0], tmp_path, split), split=split)
    dataset.row(0)  # what is loaded lazily must not break the pickle
    packed = pickle.dumps(dataset)
    assert len(packed) < 200_000, "body models and pictures must not travel"
    again = pickle.loads(packed)
    np.testing.assert_equal(again.row(0).label, dataset.row(0).label)
    assert dataset.source_names == (name,)
    assert dataset.shares == ()
    assert dataset.source(0) == 0
    assert not dataset.remote
    assert str(len(dataset)) in dataset.describe()
    assert str(tmp_path) in dataset.describe()
    assert dataset.key_or_number(0) == dataset.key(0)
    assert dataset.key_or_number(10**6) == "row 1000000"
    with pytest.raises(DataError, match="does not exist"):
        dataset.row(len(dataset))
    with pytest.raises(DataError, match="does not exist"):
        dataset.key(-1)


@pytest.mark.parametrize("target", ["set.parquet", "set.yaml"])
def test_conversion_keeps_labels_pictures_and_skips_missing_pictures(folders, tmp_path, target):
    folder = folders.coco(tmp_path / "coco", people=[{}, {}, {}])
    (folder / "train2014" / "COCO_train2014_000000000001.jpg").unlink()
    raw = open_raw("coco", folder, split="train2014")
    report = convert(raw, tmp_path / target)
    assert [row.row_id for row in report.bad_rows] == [1]
    assert "COCO_train2014_000000000001.jpg does not exist" in report.bad_rows[0].reason
    stored = open_dataset(tmp_path / target, get_spec("smpl"))
    assert [stored.key(row) for row in range(2)] == [raw.key(0), raw.key(2)]
    for stored_row, raw_row in ((0, 0), (1, 2)):
        got = getattr(stored, "exact_row", stored.row)(stored_row)
        want = raw.row(raw_row)
        assert got.image_bytes == want.image_bytes
        assert got.hw == (120, 160)
        for field, value in want.label.items():
            np.testing.assert_array_equal(np.asarray(got.label[field]), value)


def test_original_pictures_are_the_files(folders, tmp_path):
    folder = folders.coco(tmp_path)
    row = open_raw("coco", folder, split="train2014").row(0)
    file = folder / "train2014" / "COCO_train2014_000000000000.jpg"
    assert row.image_bytes == file.read_bytes()
    assert row.hw is None


@pytest.mark.parametrize("name", ["coco", "up3d"])
def test_metro_pictures_are_what_opencv_writes(folders, tmp_path, name):
    split = RAW[name].splits[0]
    folder = write(folders, name, tmp_path, split)
    row = open_raw(name, folder, split=split, images="metro").row(0)
    files = {"coco": "train2014/COCO_train2014_000000000000.jpg", "up3d": "00000_image.png"}
    file = folder / files[name]
    assert row.image_bytes == cv2.imencode(".jpg", cv2.imread(str(file)))[1].tobytes()
    assert row.image_bytes != file.read_bytes()
    assert row.hw == (120, 160)


def test_pictures_of_other_formats_are_refused_as_they_are(folders, tmp_path):
    folder = folders.coco(tmp_path)
    file = folder / "train2014" / "COCO_train2014_000000000000.jpg"
    file.write_bytes(cv2.imencode(".bmp", cv2.imread(str(file)))[1].tobytes())
    with pytest.raises(DataError, match=r"neither JPEG nor PNG.*images='metro'"):
        open_raw("coco", folder, split="train2014").row(0)
    assert open_raw("coco", folder, split="train2014", images="metro").row(0).hw == (120, 160)


def test_wrong_names_list_the_right_ones(folders, tmp_path):
    with pytest.raises(ConfigError) as error:
        open_raw("list", tmp_path, split="train")
    for name, info in RAW.items():
        assert f"{name}: {info.help}" in str(error.value)
    with pytest.raises(ConfigError, match="trainval, train, val, test"):
        open_raw("up3d", tmp_path, split="valid")
    with pytest.raises(ConfigError, match="no option 'fits'; it has: images, layout, annotations"):
        open_raw("freihand", tmp_path, split="train", fits="x.json")
    with pytest.raises(ConfigError, match="'original', 'metro'"):
        open_raw("coco", folders.coco(tmp_path), split="train2014", images="png")


@pytest.mark.parametrize(
    ("name", "file", "origin"),
    [
        ("freihand", "training_K.json", "lmb.informatik.uni-freiburg.de"),
        ("3dpw", "imageFiles", "virtualhumans.mpi-inf.mpg.de/3DPW"),
        ("human36m", "h36m_train_protocol1.npz", "vision.imar.ro"),
        ("up3d", "trainval.txt", "files.is.tuebingen.mpg.de"),
        ("coco", "annotations/person_keypoints_train2014.json", "cocodataset.org"),
        ("muco", "MuCo-3DHP.json", "vcai.mpi-inf.mpg.de"),
        ("mpii", "annot/train.json", "human-pose.mpi-inf.mpg.de"),
    ],
)
def test_missing_files_say_where_they_come_from(tmp_path, name, file, origin):
    with pytest.raises(DataError, match=r"docs/datasets.md") as error:
        open_raw(name, tmp_path, split=RAW[name].splits[0])
    assert str(tmp_path / file) in str(error.value)
    assert origin in str(error.value)


@pytest.mark.parametrize("name", ["3dpw", "human36m", "up3d", "muco"])
def test_missing_smpl_files_are_told_at_once(folders, tmp_path, name):
    split = RAW[name].splits[0]
    folder = write(folders, LAYOUTS[name][0], tmp_path / "data", split)
    with pytest.raises(AssetNotFoundError, match=r"smplify.is.tue.mpg.de"):
        open_raw(name, folder, split=split, assets_root=tmp_path)


@pytest.mark.parametrize("name", ["freihand", "coco", "muco", "mpii"])
def test_cut_annotations_name_the_file(folders, tmp_path, name):
    split = RAW[name].splits[0]
    folder = write(folders, LAYOUTS[name][0], tmp_path, split)
    files = {
        "freihand": "training_xyz.json",
        "coco": "annotations/person_keypoints_train2014.json",
        "muco": "smpl_param.json",
        "mpii": "annot/train.json",
    }
    path = folder / files[name]
    path.write_text(path.read_text()[:-40])
    with pytest.raises(DataError, match=f"{path.name} is not JSON"):
        open_raw(name, folder, split=split)


@pytest.mark.parametrize("name", ["coco", "up3d", "3dpw", "human36m"])
def test_folders_may_be_urls(folders, tmp_path, name):
    split = RAW[name].splits[0]
    folder = write(folders, LAYOUTS[name][0], tmp_path, split)
    store = fsspec.filesystem("memory")
    store.put(str(folder), f"/{name}", recursive=True)
    try:
        remote = open_raw(name, f"memory://{name}", split=split)
        local = open_raw(name, folder, split=split)
        assert remote.remote
        assert len(remote) == len(local)
        for row_id in range(len(local)):
            got, want = remote.row(row_id), local.row(row_id)
            assert (got.key, got.image_bytes) == (want.key, want.image_bytes)
            np.testing.assert_equal(got.label, want.label)
        with pytest.raises(DataError, match=r"memory://nothing.* does not exist|holds no sequence"):
            open_raw(name, "memory://nothing", split=split)
    finally:
        store.rm(f"/{name}", recursive=True)
