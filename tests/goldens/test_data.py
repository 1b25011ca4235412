"""METRO's crops, windows, joints, poses, augmentation and TSV files, number for number."""

import json
import zlib

import cv2
import formulas
import numpy as np
import pytest
import torch

from metro_ray.bodies.spec import get_spec
from metro_ray.data.augment import (
    AugmentParams,
    AugmentSettings,
    draw_picture,
    flip_joints,
    flip_pose,
    rotate_pose,
)
from metro_ray.data.convert import convert
from metro_ray.data.dataset import open_dataset
from metro_ray.data.labels import parse_label
from metro_ray.data.normalize import normalize_images
from metro_ray.data.plan import metro_batch_sizes
from metro_ray.data.transform import SampleTransform, decode_image
from metro_ray.errors import DataError
from metro_ray.geometry.boxes import crop_window, point_matrix, rotation_padding, transform_points
from metro_ray.geometry.crop import crop_fast, crop_metro

KINDS = ("body", "hand")
SPECS = {"body": get_spec("smpl"), "hand": get_spec("mano")}
TSV_SETS = {
    "body": "body/train.yaml",
    "body_subset": "body/subset.yaml",
    "body_nolinelist": "body/nolinelist.yaml",
    "composite": "composite/train.yaml",
    "hand": "hand/test.yaml",
}


@pytest.fixture(scope="module")
def params(data_goldens):
    return formulas.load_params(data_goldens.folder / "params.json")


def read_image(goldens, params, name):
    """RGB picture by name; skips when a photo is needed and not there."""
    if "photo" in params["images"][name]:
        params = {**params, "_dir": str(goldens.photo("photos").parent)}
    image = formulas.image_rgb(params, name)
    assert zlib.crc32(image.tobytes()) == params["image_crc32"][name]
    return image


def cases(goldens, params, kind, photos):
    """(index, case, picture, rotation, scale factor) of the G8 cases with or without photos."""
    for index, case in enumerate(params[kind]):
        if ("photo" in params["images"][case["image"]]) == photos:
            factor, rotation = case.get("tta", (1.0, case["rot"]))
            yield index, case, read_image(goldens, params, case["image"]), rotation, factor


def normalized(crop, gain, flip=False):
    crop = crop[:, ::-1] if flip else crop
    planes = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))
    return normalize_images(planes[None], torch.tensor(gain, dtype=torch.float64)[None])[0].numpy()


def root_rotations(pose):
    """Rotation matrices of the root vectors: near pi the vector's sign means nothing."""
    return np.stack([cv2.Rodrigues(row[:3].astype(np.float64))[0] for row in pose])


def assert_pose(actual, expected):
    np.testing.assert_allclose(root_rotations(actual), root_rotations(expected), atol=2e-6)
    np.testing.assert_array_equal(actual[:, 3:], expected[:, 3:])


# -------------------------------------------------------------------------------- G8: geometry


def test_point_transform(data_goldens, params):
    golden = data_goldens.npz("g8_transform.npz")
    for i, setting in enumerate(params["transform"]):
        points = formulas.g8_transform_points(params, i)
        resolution = tuple(setting["res"])
        matrix = point_matrix(setting["center"], setting["scale"], resolution, setting["rot"])
        if setting["invert"]:
            matrix = np.linalg.inv(matrix)
        np.testing.assert_array_equal(transform_points(points, matrix), golden["points_out"][i])


def test_root_rotation(data_goldens, params):
    golden = data_goldens.npz("g8_transform.npz")
    vectors, rotations = formulas.g8_rot_aa_inputs(params)
    actual = np.stack([rotate_pose(v, r) for v, r in zip(vectors, rotations, strict=True)])
    expected = golden["rot_aa_out"]
    np.testing.assert_allclose(root_rotations(actual), root_rotations(expected), atol=2e-6)
    np.testing.assert_array_equal(actual == 0, expected == 0)


def test_flip_permutations(data_goldens):
    golden = data_goldens.npz("g8_transform.npz")
    spec = SPECS["body"]
    joints = np.arange(1, 25, dtype=np.float64)[:, None].repeat(3, axis=1)
    np.testing.assert_array_equal(
        flip_joints(joints, spec.label_flip_pairs), golden["flip_kp_of_1_to_24"]
    )
    np.testing.assert_array_equal(
        flip_pose(np.arange(1.0, 73.0), spec.pose_flip_pairs), golden["flip_pose_of_1_to_72"]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_crop_windows(data_goldens, params, kind):
    golden = data_goldens.npz(f"g8_{kind}.npz")
    for i, case in enumerate(params[kind]):
        window = crop_window(case["center"], float(golden["scale"][i]), 224)
        expected = (*golden["window_ul"][i], *golden["window_br"][i])
        assert tuple(window) == expected, case["name"]
        assert rotation_padding(window) == golden["pad"][i], case["name"]


@pytest.mark.parametrize("photos", [False, True], ids=["patterns", "photos"])
@pytest.mark.parametrize("kind", KINDS)
def test_crops(data_goldens, params, kind, photos):
    golden = data_goldens.npz(f"g8_{kind}.npz")
    checked = 0
    for i, case, image, rotation, factor in cases(data_goldens, params, kind, photos):
        crop = crop_metro(image, case["center"], factor * case["scale"], 224, rotation)
        actual = normalized(crop, case["pn"], case["flip"])
        name = case["name"]
        np.testing.assert_allclose(actual[:, ::4, ::4], golden["crop"][i], atol=1e-6, err_msg=name)
        flat = actual.astype(np.float64).reshape(3, -1)
        np.testing.assert_allclose(flat.mean(1), golden["mean"][i], atol=1e-6, err_msg=name)
        np.testing.assert_allclose(flat.std(1), golden["std"][i], atol=1e-6, err_msg=name)
        extremes = np.stack([flat.min(1), flat.max(1)])
        np.testing.assert_allclose(extremes, golden["minmax"][i], atol=1e-6, err_msg=name)
        checked += 1
    assert checked > 0


@pytest.mark.parametrize("photos", [False, True], ids=["patterns", "photos"])
@pytest.mark.parametrize("kind", KINDS)
def test_fast_crops(data_goldens, params, kind, photos):
    """Within what an exact interpolator may differ (0.07), and on average within rounding."""
    golden = data_goldens.npz(f"g8_{kind}.npz")
    for i, case, image, rotation, factor in cases(data_goldens, params, kind, photos):
        crop = crop_fast(image, case["center"], factor * case["scale"], 224, rotation)
        difference = np.abs(
            normalized(crop, case["pn"], case["flip"])[:, ::4, ::4] - golden["crop"][i]
        )
        assert difference.max() <= (0.07 if rotation else 0.02), case["name"]
        assert difference.mean() <= 0.0065, case["name"]


@pytest.mark.parametrize("photos", [False, True], ids=["patterns", "photos"])
@pytest.mark.parametrize("kind", KINDS)
def test_samples(data_goldens, params, kind, photos):
    """Labels follow the picture, and the sample's picture is METRO's crop, rounded."""
    golden = data_goldens.npz(f"g8_{kind}.npz")
    spec = SPECS[kind]
    transform = SampleTransform(spec, train=False)
    poses, expected_poses = [], []
    for i, case, image, rotation, factor in cases(data_goldens, params, kind, photos):
        given = AugmentParams.identity(spec, rotation, factor)
        given = given._replace(flip=bool(case["flip"]), pixel_gain=np.float32(case["pn"]))
        label = parse_label(formulas.g8_annotation(params, kind, case), spec)
        sample = transform.apply(image[:, :, ::-1], label, given)
        crop = crop_metro(image, case["center"], factor * case["scale"], 224, rotation)
        flipped = crop[:, ::-1] if case["flip"] else crop
        assert np.abs(sample.image.transpose(1, 2, 0) - flipped).max() <= 0.5
        for field, name in (
            ("keypoints_2d", "joints_2d"),
            ("joints_3d", "joints_3d"),
            ("betas", "betas"),
            ("center", "center"),
            ("scale", "scale"),
        ):
            np.testing.assert_allclose(
                getattr(sample, field), golden[name][i], rtol=1e-6, atol=1e-7, err_msg=case["name"]
            )
        poses.append(sample.pose)
        expected_poses.append(golden["pose"][i])
    assert_pose(np.stack(poses), np.stack(expected_poses))


def test_boxes_at_and_beyond_the_border(data_goldens, params):
    """Where METRO works we agree; where it fails: black outside the image, an error for no box."""
    for case in data_goldens.json("g8_edge.json"):
        image = read_image(data_goldens, params, case["image"])

        def crop(case=case, image=image):
            return crop_metro(image, case["center"], case["scale"], 224, case["rot"])

        if case["result"] == "ok":
            actual = crop()
            assert (not actual.any()) == case["all_zero"], case["name"]
            assert actual.mean() == pytest.approx(case["mean"], rel=1e-12), case["name"]
        elif case["scale"] <= 0 or case["scale"] * 200 < 1:
            with pytest.raises(DataError, match="box"):
                crop()
        elif "broadcast" in case["message"] and case["rot"] == 0:  # outside, nearer than its size
            assert not crop().any(), case["name"]
        else:
            assert crop().shape == (224, 224, 3), case["name"]


# ---------------------------------------------------------------------------- G8b: augmentation


@pytest.mark.parametrize("kind", KINDS)
def test_augmentation_repeats_the_original_stream(data_goldens, kind):
    """With numpy's legacy generator the draws are METRO's own, in METRO's order."""
    golden = data_goldens.npz("g8b_streams.npz")
    seeds = data_goldens.json("g8b_augmentation.json")["streams"]["seeds"]
    spec = SPECS[kind]
    settings = AugmentSettings.for_spec(spec)
    for s, seed in enumerate(seeds):
        rng = np.random.RandomState(seed)
        for expected in golden[f"{kind}_augm_stream"][s]:
            flip, gain, rotation, factor = draw_picture(rng, spec, settings)
            np.testing.assert_array_equal([flip, *gain, rotation, factor], expected)
        rng = np.random.RandomState(seed)
        for i, expected in enumerate(golden[f"{kind}_getitem_params"][s]):
            drawn = AugmentParams.sample(rng, spec)
            assert (drawn.flip, drawn.rotation_deg, drawn.scale_factor) == (
                expected[0],
                expected[4],
                expected[5],
            )
            np.testing.assert_array_equal(drawn.pixel_gain, expected[1:4].astype(np.float32))
            masks = [golden[f"{kind}_getitem_{name}_mask"][s, i] for name in ("mjm", "mvm")]
            np.testing.assert_array_equal(drawn.token_mask[:, 0], np.concatenate(masks))


# ---------------------------------------------------------------------------------- G14: files


@pytest.mark.parametrize("name", TSV_SETS)
def test_data_sets(data_goldens, name):
    """Every row of METRO's own files: key, size, decoded picture, crop, labels."""
    golden, described = data_goldens.npz("g14_tsv.npz"), data_goldens.json("g14_tsv.json")
    kinds = described["body_row_kinds"]
    spec = SPECS["hand" if name == "hand" else "body"]
    dataset = open_dataset(data_goldens.photo("tsv") / TSV_SETS[name], spec)
    assert len(dataset) == described[name]["length"]
    transform = SampleTransform(spec, train=False)
    poses = []
    for i, expected in enumerate(described[name]["rows"]):
        row = dataset.row(expected["index"])
        assert row.key == expected["key"]
        size = expected["img_info"]
        assert row.hw == (None if size is None else (size["height"], size["width"]))
        image = decode_image(row.image_bytes)
        assert list(image.shape) == expected["decoded_shape"]
        assert zlib.crc32(image[:, :, ::-1].tobytes()) == expected["decoded_rgb_crc32"], row.key
        check_crop(golden, name, i, image[:, :, ::-1], row.label)
        sample = transform(row, expected["index"])
        whole_numbers = row_kind(described, kinds, name, row.key) == "int_joints"
        check_labels(golden, name, i, sample, expected, whole_numbers)
        poses.append(sample.pose)
    assert_pose(np.stack(poses), golden[f"{name}_pose"])
    for index in map(int, described[name]["errors"]):
        with pytest.raises(DataError):
            dataset.row(index)


def row_kind(described, kinds, name, key):
    """Which peculiarity a body row has (the composite set repeats rows of the body set)."""
    keys = described["body"]["image_keys"]
    return kinds[str(keys.index(key))] if name != "hand" and key in keys else ""


def check_crop(golden, name, i, image, label):
    crop = crop_metro(image, label["center"], label["scale"])
    actual = normalized(crop, (1.0, 1.0, 1.0))
    if f"{name}_crop" in golden:
        np.testing.assert_allclose(actual[:, ::8, ::8], golden[f"{name}_crop"][i], atol=1e-6)
    flat = actual.astype(np.float64).reshape(3, -1)
    np.testing.assert_allclose(flat.mean(1), golden[f"{name}_crop_mean"][i], atol=1e-6)
    np.testing.assert_allclose(flat.std(1), golden[f"{name}_crop_std"][i], atol=1e-6)


def check_labels(golden, name, i, sample, expected, whole_numbers):
    keypoints = sample.keypoints_2d.copy()
    if whole_numbers:  # METRO truncates whole-number labels to 0 and +-1; ours stay what they are
        keypoints = np.trunc(keypoints)
    for field, actual in (
        ("joints_2d", keypoints),
        ("joints_3d", sample.joints_3d),
        ("betas", sample.betas),
        ("center", sample.center),
        ("scale", sample.scale),
    ):
        np.testing.assert_allclose(
            actual, golden[f"{name}_{field}"][i], rtol=1e-6, atol=1e-7, err_msg=field
        )
    assert sample.has_mesh == expected["has_smpl"]
    assert sample.has_joints_3d == expected["has_3d_joints"]
    assert sample.has_keypoints_2d == expected["has_2d_joints"]
    assert sample.token_mask.all()
    assert sample.valid


def test_batches_of_the_original_sampler(data_goldens):
    for case in data_goldens.json("g14c_sampler.json")["cases"]:
        sizes = metro_batch_sizes(
            case["dataset"], case["per_gpu_batch"], case["world"], case["epochs"]
        )
        assert sizes == case["batch_sizes"], json.dumps(case)


@pytest.mark.parametrize("name", sorted(TSV_SETS))
def test_public_files_survive_parquet(data_goldens, name, tmp_path):
    """Whole numbers, nested joints, photographs, linelists and composites come back to the last detail."""
    tsv = open_dataset(data_goldens.photo("tsv") / TSV_SETS[name])
    report = convert(tsv, tmp_path / "rows.parquet")
    left_out = {bad.row_id for bad in report.bad_rows}
    kept = [row_id for row_id in range(len(tsv)) if row_id not in left_out]
    parquet = open_dataset(report.path)
    assert len(parquet) == len(kept)
    for index, row_id in enumerate(kept):
        one, other = tsv.row(row_id), parquet.exact_row(index)
        assert json.dumps(one.label) == json.dumps(other.label)
        assert (one.key, one.image_bytes, one.source) == (
            other.key,
            other.image_bytes,
            other.source,
        )
