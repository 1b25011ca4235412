"""Rows to samples: augmentation, labels, options. METRO's numbers: tests/goldens/test_data.py."""

import io
import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from metro_ray.bodies.spec import SPECS, get_spec
from metro_ray.data.augment import AugmentParams, AugmentSettings, flip_order
from metro_ray.data.labels import parse_label
from metro_ray.data.rows import Row
from metro_ray.data.transform import SampleTransform, decode_image
from metro_ray.errors import DataError

from .conftest import encode, make_image, make_label


def make_row(spec, image=None, **changes):
    data = encode(make_image(0)) if image is None else image
    return Row("seq/a.jpg", data, make_label(spec, 0, **changes), (60, 80), 2, "x.tsv: row 5")


def draws(spec, count=4000):
    rng = np.random.default_rng(0)
    return [AugmentParams.sample(rng, spec) for _ in range(count)]


# ---------------------------------------------------------------------------------------- augment


def test_distributions_of_a_body(body):
    drawn = draws(body)
    rotations = np.array([d.rotation_deg for d in drawn])
    turned = rotations[rotations != 0]
    assert np.mean([d.flip for d in drawn]) == pytest.approx(0.5, abs=0.03)
    assert len(turned) / len(drawn) == pytest.approx(0.4, abs=0.03)
    assert np.abs(turned).max() == 60.0
    inner = turned[np.abs(turned) < 60]
    assert stats.kstest(inner, stats.truncnorm(-2, 2, scale=30).cdf).pvalue > 1e-3
    factors = np.array([d.scale_factor for d in drawn])
    for end in (0.75, 1.25):
        assert np.mean(factors == end) == pytest.approx(stats.norm.sf(1), abs=0.02)
    gains = np.array([d.pixel_gain for d in drawn])
    assert stats.kstest(gains.ravel(), stats.uniform(0.6, 0.8).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(gains.T) - np.eye(3)).max() < 0.06


def test_masks_of_a_body(body):
    masks = np.array([d.token_mask[:, 0] for d in draws(body)])
    masked = 1 - masks
    joints, vertices = masked[:, :14].sum(1), masked[:, 14:].sum(1)
    shares = np.bincount(joints.astype(int), minlength=5) / len(masks)
    np.testing.assert_allclose(shares, [0.238, 0.238, 0.238, 0.238, 0.048], atol=0.03)
    assert vertices.max() == 129
    assert vertices.mean() == pytest.approx(64.2, abs=2)
    assert abs(np.corrcoef(joints, vertices)[0, 1]) < 0.06
    assert masked[:, :14].mean(0).std() < 0.01  # no joint is preferred


def test_a_hand_is_turned_further_and_never_mirrored_or_masked(hand):
    drawn = draws(hand, 1500)
    assert not any(d.flip for d in drawn)
    assert all(d.token_mask.all() for d in drawn)
    assert max(abs(d.rotation_deg) for d in drawn) == 180.0


def test_widths_can_be_set_to_nothing(body):
    still = AugmentSettings(0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    drawn = AugmentParams.sample(np.random.default_rng(1), body, still)
    assert (drawn.flip, drawn.rotation_deg, drawn.scale_factor) == (False, 0.0, 1.0)
    assert (drawn.pixel_gain == 1).all()
    assert drawn.token_mask.all()


@pytest.mark.parametrize("name", SPECS)
def test_flipping_twice_changes_nothing(name):
    spec = get_spec(name)
    for count, pairs in (
        (len(spec.label_joints), spec.label_flip_pairs),
        (spec.num_pose // 3, spec.pose_flip_pairs),
    ):
        order = np.array(flip_order(count, pairs))
        np.testing.assert_array_equal(order[order], np.arange(count))


# ---------------------------------------------------------------------------------------- samples


@pytest.mark.parametrize("name", SPECS)
def test_a_sample_of_every_spec(name):
    spec = get_spec(name)
    row = make_row(spec, body_model=spec.name)
    sample = SampleTransform(spec, train=True, seed=1)(row, row_id=7, epoch=2)
    assert sample.image.shape == (3, 224, 224)
    assert sample.image.dtype == np.uint8
    assert sample.image.flags.c_contiguous
    assert sample.keypoints_2d.shape == (len(spec.label_joints), 3)
    assert sample.joints_3d.shape == (len(spec.label_joints), 4)
    assert not sample.joints_3d[spec.root_label_joint, :3].any()
    assert sample.pose.shape == (spec.num_pose,)
    assert sample.betas.shape == (spec.num_betas,)
    assert sample.token_mask.shape == (spec.num_tokens, 1)
    assert (sample.row_id, sample.source) == (7, 2)
    assert sample.has_mesh
    assert sample.valid
    for field, value in sample._asdict().items():
        if value.dtype.kind == "f":
            assert value.dtype == np.float32, field


def test_augmentation_depends_on_seed_epoch_and_row_only(body):
    row = make_row(body)

    def draw(seed, epoch, row_id):
        return pickle.dumps(SampleTransform(body, train=True, seed=seed)(row, row_id, epoch))

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(1, 2, 3), draw(1, 2, 4), draw(1, 3, 3), draw(2, 2, 3)}) == 4


def test_evaluation_is_the_same_every_time(body):
    transform = pickle.loads(pickle.dumps(SampleTransform(body, train=False)))
    row = make_row(body)
    first, second = transform(row, 3, 0), transform(row, 3, 9)
    assert pickle.dumps(first) == pickle.dumps(second)
    assert (first.pixel_gain == 1).all()
    assert first.scale == np.float32(0.3)


def test_evaluation_can_turn_and_grow_the_box(hand):
    row = make_row(hand)
    sample = SampleTransform(hand, train=False, rotation_deg=90.0, scale_factor=1.1)(row, 0)
    plain = SampleTransform(hand, train=False)(row, 0)
    assert sample.scale == pytest.approx(1.1 * 0.3)
    x, y = plain.joints_3d[:, 0], plain.joints_3d[:, 1]
    np.testing.assert_allclose(sample.joints_3d[:, 0], y, atol=1e-6)
    np.testing.assert_allclose(sample.joints_3d[:, 1], -x, atol=1e-6)


def test_mirrored_labels_follow_the_mirrored_picture(body):
    """With exact joints, a mirrored sample is the sample of a mirrored picture and label."""
    image = make_image(4)
    label = parse_label(make_label(body, 4), body)
    transform = SampleTransform(body, train=False, joints="exact")
    params = AugmentParams.identity(body)
    plain = transform.apply(image, label, params)
    mirrored = transform.apply(image, label, params._replace(flip=True))
    order = flip_order(24, body.label_flip_pairs)
    np.testing.assert_array_equal(mirrored.image, plain.image[:, :, ::-1])
    np.testing.assert_allclose(mirrored.keypoints_2d[:, 0], -plain.keypoints_2d[order, 0])
    np.testing.assert_allclose(mirrored.joints_3d[:, 0], -plain.joints_3d[order, 0])
    np.testing.assert_allclose(mirrored.joints_3d[:, 1:], plain.joints_3d[order, 1:])


def test_the_picture_is_rgb(body):
    red = np.zeros((60, 80, 3), np.uint8)
    red[:, :, 0] = 200
    sample = SampleTransform(body, train=False)(make_row(body, encode(red, ".png")), 0)
    middle = sample.image[:, 112, 112]
    assert middle.tolist() == [200, 0, 0]


@pytest.mark.parametrize("rotation", [0.0, 40.0])
def test_options_change_a_sample_only_a_little(body, rotation):
    label = parse_label(make_label(body, 1), body)
    params = AugmentParams.identity(body, rotation_deg=rotation)
    image = make_image(1)
    metro = SampleTransform(body, train=False).apply(image, label, params)
    fast = SampleTransform(body, train=False, crop_mode="fast", joints="exact").apply(
        image, label, params
    )
    assert np.abs(metro.image.astype(int) - fast.image.astype(int)).mean() < 3
    crop_pixels, image_pixels = 2 / 224, 2 / 60  # truncated joints, truncated window
    difference = np.abs(metro.keypoints_2d - fast.keypoints_2d)
    assert difference.max() < 2.5 * crop_pixels + image_pixels
    np.testing.assert_array_equal(metro.joints_3d, fast.joints_3d)


# ----------------------------------------------------------------------------------------- labels


def test_rows_of_another_body_model_keep_their_joints_only():
    smpl, anny = get_spec("smpl"), get_spec("anny_body")
    sample = SampleTransform(anny, train=False)(make_row(smpl), 0)
    assert not sample.has_mesh
    assert not sample.pose.any()
    assert not sample.betas.any()
    assert sample.has_joints_3d
    assert sample.has_keypoints_2d
    back = SampleTransform(smpl, train=False)(make_row(anny, body_model="anny_body"), 0)
    assert not back.has_mesh
    assert back.pose.shape == (72,)


def test_has_mesh_goes_before_has_smpl():
    anny = get_spec("anny_body")
    changes = {"body_model": "anny_body", "has_smpl": 0, "has_mesh": 1}
    assert parse_label(make_label(anny, 0, **changes), anny).has_mesh
    assert not parse_label(make_label(anny, 0, **{**changes, "has_mesh": 0}), anny).has_mesh


def test_whole_numbers_stay_floats(body):
    """METRO truncates the normalised values of whole-number lists to 0 and 1."""
    keypoints = [[x, x, 1] for x in range(24)]
    sample = SampleTransform(body, train=False)(make_row(body, **{"2d_joints": keypoints}), 0)
    assert len(np.unique(sample.keypoints_2d[:, 0])) > 10


def test_a_leading_axis_of_one_is_dropped(body):
    plain = make_label(body, 0)
    nested = {name: [plain[name]] for name in ("2d_joints", "3d_joints")}
    assert pickle.dumps(parse_label(plain | nested, body)) == pickle.dumps(parse_label(plain, body))


FIELDS = (
    "center",
    "scale",
    "2d_joints",
    "has_2d_joints",
    "3d_joints",
    "has_3d_joints",
    "pose",
    "betas",
    "has_smpl",
)


@pytest.mark.parametrize("field", FIELDS)
def test_missing_fields_are_named(body, field):
    row = make_row(body)
    del row.label[field]
    with pytest.raises(DataError, match=rf"x\.tsv: row 5 \(seq/a\.jpg\): .*lacks {field}"):
        SampleTransform(body, train=False)(row, 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"center": [1.0]},
        {"center": ["a", "b"]},
        {"center": [float("nan"), 1.0]},
        {"scale": "big"},
        {"scale": None},
        {"scale": 0.0},
        {"scale": -2.0},
        {"scale": float("inf")},
        {"pose": [0.0] * 71},
        {"pose": [float("nan")] * 72},
        {"betas": [[0.0] * 10] * 2},
        {"2d_joints": [[0.0, 0.0, 1.0]] * 21},
        {"3d_joints": [[0.0, 0.0, 1.0]] * 24},
        {"has_smpl": 2},
        {"has_2d_joints": "yes"},
    ],
    ids=str,
)
def test_impossible_values_are_named(body, changes):
    field = next(iter(changes))
    with pytest.raises(DataError, match=rf"seq/a\.jpg.*{field}"):
        SampleTransform(body, train=False)(make_row(body, **changes), 5)


def test_unused_fields_may_hold_nan(body):
    label = make_label(body, 0, has_smpl=0, pose=[float("nan")] * 72)
    assert not parse_label(label, body).pose.any()


# ----------------------------------------------------------------------------------------- images


def test_grey_png_and_exif_rotation():
    grey = cv2.imencode(".png", make_image(0)[:, :, 0])[1].tobytes()
    assert decode_image(grey).shape == (60, 80, 3)
    jpeg = encode(make_image(0))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert decode_image(turned).shape == (80, 60, 3)


def opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def pil_jpeg(picture, mode, **options):
    target = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(target, "JPEG", **options)
    return target.getvalue()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 9), (16, 16), (33, 31), (224, 223)])
@pytest.mark.parametrize("quality", [20, 95])
def test_jpegs_of_every_kind_are_decoded_as_opencv_does(height, width, quality):
    picture = cv2.resize(make_image(3), (width, height))
    jpegs = [
        pil_jpeg(picture, mode, quality=quality)
        for mode in ("L", "CMYK", "RGB")  # CMYK in Adobe's inverted way
    ]
    jpegs.append(pil_jpeg(picture, "RGB", quality=quality, keep_rgb=True))
    for chroma in ("411", "420", "422", "440", "444"):
        factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{chroma}")
        for progressive, restart in ((0, 0), (1, 0), (0, 2)):
            given = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
            given += [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
            given += [cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
            jpegs.append(cv2.imencode(".jpg", picture, given)[1].tobytes())
    for data in jpegs:
        np.testing.assert_array_equal(decode_image(data), opencv(data))


@given(st.lists(st.tuples(st.integers(2, 2000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_damaged_jpegs_are_what_opencv_makes_of_them(changes):
    data = bytearray(encode(make_image(0)))
    for place, value in changes:
        data[2 + place % (len(data) - 4)] = value
    try:
        expected = opencv(bytes(data))
    except cv2.error:
        expected = None
    if expected is None:
        with pytest.raises(DataError, match=r"image|JPEG"):
            decode_image(bytes(data))
    else:
        np.testing.assert_array_equal(decode_image(bytes(data)), expected)


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_found_behind_other_segments(orientation, before):
    """Segments that hold the marker of a scan, as thumbnails do, do not hide it."""
    jpeg = encode(make_image(0))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"
    exif += bytes([orientation]) + b"\0\0\0\0\0\0"
    segments = b"\xff\xe2\0\x08\xff\xda\xff\xd9ab" * before
    segments += b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    turned = jpeg[:2] + segments + jpeg[2:]
    np.testing.assert_array_equal(decode_image(turned), opencv(turned))
    assert decode_image(turned).shape == ((80, 60, 3) if orientation > 4 else (60, 80, 3))


@pytest.mark.parametrize(
    "data", [b"", b"text", encode(make_image(0))[:-2], encode(make_image(0))[:300]]
)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(DataError, match=r"image|JPEG"):
        decode_image(data)
