"""Parquet data sets: what is written comes back, single rows are read directly, faults are named."""

import json
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_rows import write_rows

from metro_ray.bodies.spec import get_spec
from metro_ray.data import (
    ParquetDataset,
    ParquetDatasetWriter,
    SampleTransform,
    open_dataset,
)
from metro_ray.data.parquet_schema import DEFAULT_SIZES, decode_label, encode_label
from metro_ray.errors import DataError

SPEC = get_spec("anny_body")

numbers = st.one_of(st.integers(-(2**40), 2**40), st.floats(allow_nan=False, width=64))


@st.composite
def arrays(draw, *shape):
    """Nested lists of floats, of whole numbers, or of both."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    floats, whole = rng.normal(size=shape), rng.integers(-9, 9, shape)
    kind = draw(st.sampled_from(["floats", "whole", "mixed", "zeros"]))
    if kind == "zeros":
        return np.zeros(shape).tolist()
    if kind == "mixed":
        mixed = floats.astype(object)
        mixed[rng.random(shape) < 0.3] = 1
        return mixed.tolist()
    return (floats if kind == "floats" else whole).tolist()


def nested(strategy):
    return st.one_of(strategy, strategy.map(lambda value: [value]))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
records = st.fixed_dictionaries(
    {
        "center": arrays(2),
        "scale": numbers,
        "2d_joints": nested(arrays(24, 3)),
        "3d_joints": nested(arrays(24, 4)),
        "pose": arrays(72),
        "betas": arrays(10),
        "has_2d_joints": st.sampled_from([0, 1, True, 1.0]),
        "has_3d_joints": st.sampled_from([0, 1]),
    },
    optional={
        "has_smpl": st.sampled_from([0, 1, False]),
        "has_mesh": st.sampled_from([0, 1]),
        "gender": st.sampled_from(["m", "", None, 3]),
        "body_model": st.sampled_from(["smpl", ""]),
        "hrnet_2d_joints": json_values,
    },
)
slow_examples = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


@slow_examples
@given(records.flatmap(lambda record: st.permutations(list(record.items()))).map(dict))
def test_every_record_comes_back_to_the_last_detail(record):
    columns = encode_label(record, DEFAULT_SIZES)
    assert json.dumps(decode_label(columns, DEFAULT_SIZES)) == json.dumps(record)


@slow_examples
@given(st.dictionaries(st.sampled_from(["center", "pose", "2d_joints", "x"]), json_values))
def test_broken_records_come_back_too(record):
    columns = encode_label(record, DEFAULT_SIZES)
    assert decode_label(columns, DEFAULT_SIZES) == record
    assert columns["label_json"]


def copy_to_parquet(dataset, folder, name="train", **options):
    with ParquetDatasetWriter(folder, name, sources=dataset.source_names, **options) as writer:
        for row_id in range(len(dataset)):
            row = dataset.row(row_id)
            height, width = row.hw
            writer.add(row.key, row.image_bytes, row.label, height, width, source=row.source)
    return writer.path


@pytest.fixture(scope="module")
def tsv(tmp_path_factory):
    """300 rows, so that there are several row groups; one with a broken picture."""
    return open_dataset(write_rows(tmp_path_factory.mktemp("tsv"), "train", 300, broken=(5,)))


@pytest.fixture(scope="module")
def parquet(tsv, tmp_path_factory):
    return copy_to_parquet(tsv, tmp_path_factory.mktemp("parquet"), rows_per_part=180)


def test_samples_from_parquet_equal_those_from_tsv(tsv, parquet):
    dataset = open_dataset(parquet, SPEC)
    assert len(dataset) == len(tsv) == 300
    transform = SampleTransform(SPEC, train=True)
    for row_id in (0, 127, 128, 179, 180, 299):
        theirs, ours = tsv.row(row_id), dataset.row(row_id)
        assert ours.key == theirs.key
        assert dataset.key(row_id) == theirs.key
        assert ours.image_bytes == theirs.image_bytes
        assert ours.hw == theirs.hw
        for one, other in zip(
            transform(ours, row_id, 3), transform(theirs, row_id, 3), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_exact_rows_hold_the_record_that_was_written(tsv, parquet):
    dataset = ParquetDataset(parquet)
    for row_id in range(0, 300, 37):
        assert dataset.exact_row(row_id).label == tsv.row(row_id).label


def test_any_parquet_reader_can_read_the_parts(tsv, parquet):
    tables = [pq.read_table(path) for path in sorted(parquet.glob("part-*.parquet"))]
    assert [len(table) for table in tables] == [180, 120]
    row = tables[1].slice(7, 1).to_pylist()[0]
    expected = tsv.row(187)
    assert row["key"] == expected.key
    assert row["image"] == expected.image_bytes
    np.testing.assert_array_equal(row["pose"], expected.label["pose"])
    joints = np.reshape(row["joints_3d"], (-1, 4))
    np.testing.assert_array_equal(joints, expected.label["3d_joints"][0])


def test_rows_are_read_without_reading_their_row_group(parquet, monkeypatch):
    from metro_ray.data.parquet_pages import ParquetPart

    def refuse(*args):
        raise AssertionError("a whole row group was read")

    monkeypatch.setattr(ParquetPart, "_read_slowly", refuse)
    dataset = open_dataset(parquet)
    assert [dataset.row(row_id).key for row_id in (3, 299)] == ["row3.jpg", "row299.jpg"]


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"use_dictionary": True},
        {
            "compression": "none",
            "use_dictionary": False,
            "data_page_size": 2000,
            "write_batch_size": 8,
        },
    ],
    ids=["compressed", "dictionary", "several pages"],
)
def test_parts_rewritten_by_another_tool_are_read_with_a_warning(
    parquet, tmp_path, caplog, options
):
    rewritten = tmp_path / "rewritten.parquet"
    pq.write_table(pq.read_table(parquet / "part-00000.parquet"), rewritten, **options)
    ours, theirs = open_dataset(parquet), open_dataset(rewritten)
    with caplog.at_level(logging.WARNING):
        for row_id in (0, 150, 5, 179):
            one, other = ours.row(row_id), theirs.row(row_id)
            assert one.key == other.key
            assert one.image_bytes == other.image_bytes
            np.testing.assert_array_equal(one.label["3d_joints"], other.label["3d_joints"])
    if "reading its whole row group" not in caplog.text:
        pytest.fail("nothing was said about slow reading")


def test_it_pickles_small_and_reads_from_threads(parquet):
    dataset = pickle.loads(pickle.dumps(open_dataset(parquet)))
    assert len(pickle.dumps(dataset)) < 1000
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(dataset.key, range(300)))
    assert keys == [f"row{row_id}.jpg" for row_id in range(300)]


def test_rows_outside_are_refused(parquet):
    with pytest.raises(DataError, match="row 300 does not exist, the data set has 300 rows"):
        open_dataset(parquet).row(300)


def test_a_stopped_writer_leaves_no_data_set(tsv, tmp_path):
    writer = ParquetDatasetWriter(tmp_path, "x", rows_per_part=2)

    def write_and_fail():
        with writer:
            for row_id in range(5):
                row = tsv.row(row_id)
                writer.add(row.key, row.image_bytes, row.label, 60, 80)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert not list(writer.path.iterdir())
    with pytest.raises(
        DataError, match=r"does not exist or is unfinished: it has no dataset\.json"
    ):
        open_dataset(writer.path)


def test_parts_of_another_data_set_are_noticed(tsv, tmp_path):
    path = copy_to_parquet(tsv, tmp_path, rows_per_part=200)
    (path / "part-00001.parquet").write_bytes((path / "part-00000.parquet").read_bytes())
    with pytest.raises(DataError, match=r"has 200 rows, dataset\.json says 100"):
        open_dataset(path).row(250)


def test_damaged_files_are_named(parquet, tmp_path):
    cut = tmp_path / "cut.parquet"
    cut.write_bytes((parquet / "part-00000.parquet").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cut\.parquet: not a whole Parquet file"):
        open_dataset(cut)
    other = tmp_path / "other.parquet"
    pq.write_table(pq.read_table(parquet / "part-00000.parquet").select(["key"]), other)
    with pytest.raises(DataError, match="columns body_model, gender"):
        open_dataset(other)
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pq.read_table(parquet / "part-00000.parquet").replace_schema_metadata(), foreign)
    with pytest.raises(DataError, match="not a data set of version 1"):
        open_dataset(foreign)


def test_body_rows_are_refused_for_hands(parquet):
    with pytest.raises(DataError, match="its rows have 24 joints, but hand rows have 21"):
        open_dataset(parquet, get_spec("anny_hand"))


def test_a_label_that_fits_no_column_stays_a_broken_row(tsv, tmp_path):
    broken = {**tsv.row(1).label, "pose": [1.0, 2.0]}
    with ParquetDatasetWriter(tmp_path, "train") as writer:
        for label in (broken, tsv.row(0).label):
            writer.add("x.jpg", tsv.row(0).image_bytes, label, 60, 80)
    dataset = open_dataset(writer.path, SPEC)
    assert dataset.exact_row(0).label == broken
    transform = SampleTransform(SPEC, train=False)
    with pytest.raises(DataError, match=r"part-00000\.parquet: row 0 \(x\.jpg\): label field pose"):
        transform(dataset.row(0), 0)
    assert transform(dataset.row(1), 1).has_mesh
