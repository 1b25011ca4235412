"""Conversions: nothing is lost, a stopped one goes on, broken rows are listed, baked crops show the same."""

import base64
import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_rows import write_rows

from metro_ray.bodies.spec import get_spec
from metro_ray.data import AugmentParams, SampleTransform, TsvDatasetWriter, open_dataset
from metro_ray.data import writer as writer_module
from metro_ray.data.bake import BakeSettings, bake_row
from metro_ray.data.convert import ConvertSettings, convert
from metro_ray.data.convert_work import ConvertWork
from metro_ray.data.labels import parse_label
from metro_ray.data.rows import Row
from metro_ray.data.transform import decode_image
from metro_ray.errors import DataError

SPEC = get_spec("smpl")


def content(dataset):
    """What must survive: key, bytes and record of every row, in order."""
    read = getattr(dataset, "exact_row", dataset.row)
    rows = [read(row_id) for row_id in range(len(dataset))]
    return [(row.key, row.image_bytes, json.dumps(row.label, sort_keys=True)) for row in rows]


def read_as_metro_does(folder, name, row):
    """METRO's way: seek to the offset of the line index, read a line, split it."""
    offsets = [int(line) for line in (folder / f"{name}.lineidx").read_text().splitlines()]
    with (folder / f"{name}.tsv").open() as file:
        file.seek(offsets[row])
        return [column.strip() for column in file.readline().split("\t")]


def test_tsv_to_parquet_and_back_loses_nothing(tmp_path):
    tsv = open_dataset(write_rows(tmp_path / "a", "train", 9))
    report = convert(tsv, tmp_path / "b" / "train.parquet", ConvertSettings(rows_per_part=4))
    assert (report.num_rows, report.bad_rows) == (9, ())
    parquet = open_dataset(report.path)
    back = convert(parquet, tmp_path / "c" / "train.yaml", ConvertSettings(rows_per_part=4))
    assert content(tsv) == content(parquet) == content(open_dataset(back.path))
    for part in ("img", "label", "hw", "linelist"):
        for suffix in ("tsv", "lineidx"):
            one, other = (tmp_path / folder / f"train.{part}.{suffix}" for folder in "ac")
            assert one.read_bytes() == other.read_bytes()
    assert {file.suffix for file in (tmp_path / "c").iterdir()} == {".tsv", ".lineidx", ".yaml"}
    assert sorted(file.name for file in (tmp_path / "b").iterdir()) == ["train.parquet"]


def test_written_tsv_is_read_by_offsets_of_bytes(tmp_path):
    with TsvDatasetWriter(tmp_path / "a", "train") as writer:
        for name in ("ä.jpg", "手.jpg", "z.jpg"):
            writer.add(name, b"\xff\xd8" + name.encode() + b"\xff\xd9", {"x": 1}, 60, 80)
    parquet = convert(open_dataset(writer.yaml_path), tmp_path / "b.parquet").path
    convert(open_dataset(parquet), tmp_path / "c" / "train.yaml")
    for row, name in enumerate(("ä.jpg", "手.jpg", "z.jpg")):
        key, image = read_as_metro_does(tmp_path / "c", "train.img", row)
        assert key == name
        assert base64.b64decode(image) == b"\xff\xd8" + name.encode() + b"\xff\xd9"
        assert json.loads(read_as_metro_does(tmp_path / "c", "train.label", row)[1]) == [{"x": 1}]


def test_sources_of_a_composite_are_kept(tmp_path):
    for index, name in enumerate(("one", "two")):
        write_rows(tmp_path, name, 2 + index)
    (tmp_path / "list.linelist.tsv").write_text("1\t0\n0\t1\n1\t2\n")
    files = {
        key: [f"{name}.{key}.tsv" for name in ("one", "two")] for key in ("img", "label", "hw")
    }
    text = json.dumps({**files, "composite": True, "linelist": "list.linelist.tsv"})
    (tmp_path / "both.yaml").write_text(text)
    parquet = open_dataset(
        convert(open_dataset(tmp_path / "both.yaml"), tmp_path / "p.parquet").path
    )
    assert parquet.source_names == ("one", "two")
    assert [parquet.source(row) for row in range(3)] == [1, 0, 1]
    assert [parquet.row(row).source for row in range(3)] == [1, 0, 1]


def test_a_mixture_of_both_formats_becomes_one_data_set(tmp_path):
    tsv = open_dataset(write_rows(tmp_path / "a", "one", 3))
    parquet = convert(open_dataset(write_rows(tmp_path / "b", "two", 2)), tmp_path / "two.parquet")
    sources = [{"name": "one", "data": "a/one.yaml"}, {"name": "two", "data": "two.parquet"}]
    (tmp_path / "both.yaml").write_text(json.dumps({"mixture": sources}))
    both = open_dataset(tmp_path / "both.yaml")
    written = open_dataset(convert(both, tmp_path / "c" / "all.yaml").path)
    assert content(written) == content(tsv) + content(open_dataset(parquet.path))
    assert written.row(4).label["has_smpl"] == 0


def test_a_stopped_conversion_goes_on(tmp_path, monkeypatch):
    tsv = open_dataset(write_rows(tmp_path / "a", "train", 10))
    target, plan = tmp_path / "b" / "train.parquet", ConvertSettings(rows_per_part=2)
    finished, calls = ConvertWork.finished, []

    def stop_after_two(work, index, num_rows, bad):
        finished(work, index, num_rows, bad)
        calls.append(index)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(ConvertWork, "finished", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        convert(tsv, target, plan)
    with pytest.raises(DataError, match="unfinished"):
        open_dataset(target)
    with pytest.raises(DataError, match="belongs to another conversion that was stopped"):
        convert(tsv, target, plan._replace(bake=BakeSettings()))
    first = target / f"part-{calls[0]:05d}.parquet"
    before = first.stat().st_mtime_ns
    convert(tsv, target, plan)
    assert len(calls) == 5
    assert first.stat().st_mtime_ns == before
    assert content(open_dataset(target)) == content(tsv)
    with pytest.raises(DataError, match="exists already"):
        convert(tsv, target, plan)


def test_a_conversion_stopped_while_cleaning_up_is_finished(tmp_path, monkeypatch):
    tsv = open_dataset(write_rows(tmp_path / "a", "train", 6))
    target, plan = tmp_path / "b" / "train.yaml", ConvertSettings(rows_per_part=2)
    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "remove_dataset", stop)
        with pytest.raises(KeyboardInterrupt):
            convert(tsv, target, plan)
    assert target.is_file()
    assert convert(tsv, target, plan).num_rows == 6
    assert content(open_dataset(target)) == content(tsv)
    assert len(list(target.parent.iterdir())) == 9, "four TSVs, their indexes and the YAML"


def stop(*args):
    raise KeyboardInterrupt


def test_rows_that_cannot_be_read_are_listed_and_limited(tmp_path):
    tsv = open_dataset(write_rows(tmp_path, "train", 6, broken=(2, 4)))
    bake = ConvertSettings(bake=BakeSettings(size=64))
    report = convert(tsv, tmp_path / "kept.parquet", bake)
    assert report.num_rows == 4
    assert [(row.row_id, row.key) for row in report.bad_rows] == [(2, "row2.jpg"), (4, "row4.jpg")]
    assert "cannot be decoded" in report.bad_rows[0].reason
    with pytest.raises(DataError, match=r"2 rows cannot be read, --max-bad-rows allows 1"):
        convert(tsv, tmp_path / "strict.parquet", bake._replace(max_bad_rows=1))
    unbaked = convert(tsv, tmp_path / "all.parquet")
    assert unbaked.num_rows == 6, "pictures are copied as they are"


def test_two_processes_write_the_same(tmp_path):
    tsv = open_dataset(write_rows(tmp_path, "train", 12))
    plan = ConvertSettings(rows_per_part=3, bake=BakeSettings(size=64))
    one = convert(tsv, tmp_path / "one.parquet", plan, workers=1).path
    two = convert(tsv, tmp_path / "two.parquet", plan, workers=2).path
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes()


def test_parquet_can_be_written_to_and_read_from_s3(tmp_path, s3):
    tsv = open_dataset(write_rows(tmp_path, "train", 9))
    target = f"{s3}/train.parquet"
    report = convert(tsv, target, ConvertSettings(rows_per_part=5), workers=2)
    remote = open_dataset(target, get_spec("anny_body"))
    assert remote.remote
    assert report.num_rows == 9
    assert content(remote) == content(tsv)
    back = convert(remote, tmp_path / "back.yaml").path
    assert content(open_dataset(back)) == content(tsv)


def test_impossible_targets_are_refused(tmp_path):
    tsv = open_dataset(write_rows(tmp_path, "train", 2))
    with pytest.raises(DataError, match=r"expected NAME\.parquet"):
        convert(tsv, tmp_path / "rows.csv")
    with pytest.raises(DataError, match="TSV files are written to local disks only"):
        convert(tsv, "memory://rows/train.yaml")


def smooth_row(seed, side=600, center=(300.0, 280.0), scale=1.2):
    rng = np.random.default_rng(seed)
    image = cv2.resize(
        rng.integers(0, 256, (9, 9, 3), np.uint8), (side, side), interpolation=cv2.INTER_CUBIC
    )
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    label = {
        "center": list(center),
        "scale": scale,
        "2d_joints": np.column_stack([rng.uniform(100, 500, (24, 2)), np.ones(24)]).tolist(),
        "has_2d_joints": 1,
        "3d_joints": rng.uniform(-1, 1, (24, 4)).tolist(),
        "has_3d_joints": 1,
        "pose": [0.1] * 72,
        "betas": [0.0] * 10,
        "has_smpl": 1,
    }
    return Row(f"{seed}.jpg", data, label, (side, side), 0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 50),
    size=st.sampled_from([256, 512, 1000]),
    center=st.tuples(st.floats(0, 600), st.floats(0, 600)),
    scale=st.floats(0.3, 2.5),
    factor=st.floats(0.75, 1.25),
    rotation=st.floats(-180, 180),
    flip=st.booleans(),
)
def test_every_augmentation_sees_the_same_in_a_baked_row(
    seed, size, center, scale, factor, rotation, flip
):
    row = smooth_row(seed, center=center, scale=scale)
    baked = bake_row(row, BakeSettings(size=size))
    transform = SampleTransform(SPEC, train=True, crop_mode="fast", joints="exact")
    params = AugmentParams.identity(SPEC)._replace(
        flip=flip, rotation_deg=rotation, scale_factor=factor
    )
    one, other = (
        transform.apply(decode_image(r.image_bytes), parse_label(r.label, SPEC), params)
        for r in (row, baked)
    )
    difference = np.abs(one.image.astype(int) - other.image)
    assert difference.mean() < 4.0, "a window is off by a pixel of the baked picture at most"
    assert np.mean(difference > 24) < 0.02, "only edges of the picture may move by a pixel"
    # The window is cut at whole pixels: of the image, and of the baked picture.
    pixel = 2 * 2.5 / (min(1.0, size / (1.77 * 200 * scale)) * 200 * scale * factor)
    np.testing.assert_allclose(one.keypoints_2d, other.keypoints_2d, rtol=0.03, atol=pixel)
    np.testing.assert_array_equal(one.joints_3d, other.joints_3d)
    assert max(baked.hw) <= size


def test_baked_rows_are_cut_and_not_resampled_where_they_fit():
    row = smooth_row(1, side=600, scale=0.5)
    baked = bake_row(row, BakeSettings(size=512))
    assert baked.label["scale"] == 0.5
    assert baked.hw == decode_image(baked.image_bytes).shape[:2]
    assert max(baked.hw) < 200
    assert len(baked.image_bytes) < len(row.image_bytes) / 2
