"""The writer streams, publishes at the end, and joins shards into what one writer would have written."""

import json

import numpy as np
import pytest

from metro_ray.data.dataset import open_dataset
from metro_ray.data.tsv import build_lineidx
from metro_ray.data.writer import TsvDatasetWriter, concatenate
from metro_ray.errors import DataError

PARTS = ("img", "label", "hw", "linelist")


def write(folder, name, rows):
    with TsvDatasetWriter(folder, name) as writer:
        for row in rows:
            writer.add(f"kéy {row}", b"picture %d" % row, {"value": row}, row + 1, row + 2)
    return writer.yaml_path


def contents(folder, name):
    files = [f"{name}.{part}.{end}" for part in PARTS for end in ("tsv", "lineidx")]
    return {file: (folder / file).read_bytes() for file in [*files, f"{name}.yaml"]}


def test_rows_can_be_read_back(tmp_path):
    dataset = open_dataset(write(tmp_path, "x", range(4)))
    row = dataset.row(3)
    assert (row.key, row.image_bytes, row.label, row.hw) == (
        "kéy 3",
        b"picture 3",
        {"value": 3},
        (4, 5),
    )
    assert len(dataset) == 4


def test_line_indices_are_byte_offsets(tmp_path):
    write(tmp_path, "x", range(4))
    written = contents(tmp_path, "x")
    for part in PARTS:
        build_lineidx(tmp_path / f"x.{part}.tsv")
    assert contents(tmp_path, "x") == written


def test_arrays_are_written_as_numbers(tmp_path):
    label = {"a": np.arange(4.0).reshape(2, 2), "b": np.float32(0.5), "c": np.bool_(True)}
    with TsvDatasetWriter(tmp_path, "x") as writer:
        writer.add("k", b"p", label, 1, 1)
    assert open_dataset(writer.yaml_path).row(0).label == {
        "a": [[0, 1], [2, 3]],
        "b": 0.5,
        "c": True,
    }


def test_nothing_is_published_before_the_end(tmp_path):
    with TsvDatasetWriter(tmp_path, "x") as writer:
        writer.add("k", b"p", {}, 1, 1)
        assert all(path.name.endswith(".partial") for path in tmp_path.iterdir())
    assert not list(tmp_path.glob("*.partial"))


def test_an_error_leaves_nothing_behind(tmp_path):
    def stop_half_way():
        with TsvDatasetWriter(tmp_path, "x") as writer:
            writer.add("k", b"p", {}, 1, 1)
            raise KeyError

    with pytest.raises(KeyError):
        stop_half_way()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "label"),
    [("a\tb", {}), ("a\nb", {}), ("", {}), ("k", {"x": object()}), ("k", {"x": float("nan")})],
)
def test_what_cannot_be_written_is_refused(tmp_path, key, label):
    with TsvDatasetWriter(tmp_path, "x") as writer:
        with pytest.raises(DataError, match="row 0"):
            writer.add(key, b"p", label, 1, 1)
        writer.add("good", b"p", {}, 1, 1)
    dataset = open_dataset(writer.yaml_path)
    assert [dataset.key(i) for i in range(len(dataset))] == ["good"]


def test_joined_shards_are_what_one_writer_writes(tmp_path):
    for shard, rows in (("s0", range(3)), ("s1", range(0)), ("s2", range(3, 7))):
        write(tmp_path / "joined", shard, rows)
    concatenate(tmp_path / "joined", "all", ["s0", "s1", "s2"])
    write(tmp_path / "whole", "all", range(7))
    assert contents(tmp_path / "joined", "all") == contents(tmp_path / "whole", "all")
    assert len(list((tmp_path / "joined").iterdir())) == 9  # the shards are gone


def test_unfinished_shards_are_refused_and_kept(tmp_path):
    write(tmp_path, "s0", range(3))
    with pytest.raises(DataError, match="s1 is not finished"):
        concatenate(tmp_path, "all", ["s0", "s1"])
    assert open_dataset(tmp_path / "s0.yaml").row(2).label == {"value": 2}
    assert not (tmp_path / "all.yaml").exists()


def test_the_yaml_is_plain_metro(tmp_path):
    write(tmp_path, "x", range(1))
    lines = (tmp_path / "x.yaml").read_text().split()
    assert json.dumps(lines) == json.dumps(
        [word for part in PARTS for word in (f"{part}:", f"x.{part}.tsv")]
    )
