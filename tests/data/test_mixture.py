"""Mixtures: shares of an epoch, rows that come twice, and every mistake in the YAML by name."""

import pickle

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from metro_ray.data.convert import convert
from metro_ray.data.dataset import open_dataset
from metro_ray.data.mixture import split_rows
from metro_ray.data.plan import decode_entry
from metro_ray.data.transform import SampleTransform, load_row
from metro_ray.errors import DataError
from metro_ray.training.data_source import LocalDataSource, train_plan

from .conftest import write_dataset

PLAIN = [{"name": "small", "data": "a/a.yaml"}, {"name": "large", "data": "b/b.yaml"}]
WEIGHTED = [{**entry, "weight": weight} for entry, weight in zip(PLAIN, (1, 1), strict=True)]


@pytest.fixture
def mix(tmp_path, body):
    """Writes a mixture of a data set of 3 rows and one of 11, with changes; gives its path."""
    for name, rows in (("a", 3), ("b", 11)):
        (tmp_path / name).mkdir()
        write_dataset(tmp_path / name, body, rows, name)

    def write(sources, **more):
        path = tmp_path / "mix.yaml"
        path.write_text(yaml.safe_dump({"mixture": sources, **more}))
        return path

    return write


def plan_of(make_config, path, body, epoch=0):
    config = make_config(**{"data.train_yaml": str(path)})
    dataset = open_dataset(path, body)
    return dataset, train_plan(config, dataset, 1, epoch, 0)


@pytest.fixture
def make_config():
    from metro_ray.config.load import load_config

    return lambda **changes: load_config("body", overrides=changes)


def test_without_weights_it_is_the_union(mix, body, make_config):
    dataset, plan = plan_of(make_config, mix(PLAIN), body)
    assert len(dataset) == 14
    assert dataset.source_names == ("small", "large")
    assert [dataset.source(row) for row in range(14)] == [0] * 3 + [1] * 11
    assert [dataset.row(row).source for row in (0, 2, 3, 13)] == [0, 0, 1, 1]
    assert dataset.key(3) == dataset.row(3).key == "seq/image_000.jpg"
    assert sorted(plan.order().tolist()) == list(range(14))
    assert "14 rows, each once an epoch: 3 of small, 11 of large" in dataset.describe()
    assert pickle.loads(pickle.dumps(dataset)).key(13) == "seq/image_010.jpg"
    with pytest.raises(DataError, match="row 14 does not exist, the mixture has 14 rows"):
        dataset.row(14)


def test_weights_are_shares_of_an_epoch(mix, body, make_config):
    dataset, plan = plan_of(make_config, mix(WEIGHTED, rows_per_epoch=20), body)
    assert "20 rows: 10 of small's 3 (50.0%), 10 of large's 11" in dataset.describe()
    assert "validation ignores the weights and takes each of the 14 rows once" in dataset.describe()
    rows = np.array([decode_entry(entry, 14).row_id for entry in plan.order().tolist()])
    assert [(rows < 3).sum(), (rows >= 3).sum()] == [10, 10]
    assert set(np.bincount(rows[rows < 3])) == {3, 4}
    assert max(np.bincount(rows)[3:]) == 1
    dataset, plan = plan_of(make_config, mix(WEIGHTED), body)
    assert plan.rows_per_epoch == 14


def test_a_row_that_comes_twice_is_augmented_twice(mix, body, make_config):
    dataset, plan = plan_of(make_config, mix(WEIGHTED, rows_per_epoch=20), body)
    transform = SampleTransform(body, train=True, seed=1)
    first = [e for e in plan.order().tolist() if decode_entry(e, 14).row_id == 0]
    samples = [load_row(dataset, transform, entry, epoch=0).sample for entry in first]
    assert len(samples) >= 3
    assert {int(sample.row_id) for sample in samples} == {0}
    gains = [tuple(sample.pixel_gain) for sample in samples]
    assert len(set(gains)) == len(gains)
    filler = load_row(dataset, transform, ~first[-1], epoch=0).sample
    assert not filler.valid
    assert tuple(filler.pixel_gain) == gains[-1], "a filler is its entry without labels"


def test_training_takes_the_shares_and_validation_every_row_once(mix, body, make_config):
    path = str(mix(WEIGHTED, rows_per_epoch=20))
    config = make_config(**{"data.train_yaml": path, "data.val_yaml": path})
    data = LocalDataSource(config, body)
    assert data.source_names == ("small", "large")
    assert [line.split(":")[0] for line in data.describe()] == ["train", "val"]
    sources = np.concatenate([batch.source.numpy() for batch in data.train_batches(0)])
    assert np.bincount(sources).tolist() == [10, 10]
    [batch] = data.eval_batches()
    assert batch.row_id.tolist() == list(range(14))


def test_sources_may_be_parquet(mix, body, tmp_path):
    path = mix([{"name": "p", "data": "a.parquet"}, PLAIN[1]])
    convert(open_dataset(tmp_path / "a" / "a.yaml"), tmp_path / "a.parquet")
    dataset = open_dataset(path, body)
    assert len(dataset) == 14
    assert dataset.row(2).key == "seq/image_002.jpg"


@given(st.integers(0, 10**6), st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8))
def test_parts_add_up_and_are_within_one_row_of_their_share(total, weights):
    parts = split_rows(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / sum(weights)) < 1 + 1e-6


def test_the_largest_remainders_are_rounded_up():
    assert split_rows(10, [1, 1, 1]) == [4, 3, 3]
    assert split_rows(100, [0.005, 0.333, 0.662]) == [1, 33, 66]


@pytest.mark.parametrize(
    ("sources", "more", "words"),
    [
        ([], {}, "must list its sources"),
        ("a.yaml", {}, "must list its sources"),
        (["a.yaml"], {}, "source 1 .* must have the keys name and data"),
        ([{"data": "a/a.yaml"}], {}, "name must be a text, got None"),
        ([{**PLAIN[0], "wieght": 1}], {}, "unknown key wieght; expected name, data, weight"),
        (PLAIN, {"row_per_epoch": 5}, "unknown key row_per_epoch"),
        ([PLAIN[0], PLAIN[0]], {}, "two sources are named 'small'"),
        ([{**PLAIN[0], "weight": 0}], {}, "weight must be a number above 0, got 0"),
        ([{**PLAIN[0], "weight": "half"}], {}, "weight must be a number above 0, got 'half'"),
        ([WEIGHTED[0], PLAIN[1]], {}, "a weight to every source or to none; missing: large"),
        (PLAIN, {"rows_per_epoch": 5}, "rows_per_epoch needs a weight for each source"),
        (WEIGHTED, {"rows_per_epoch": 0}, "rows_per_epoch must be a whole number above 0, got 0"),
        (WEIGHTED, {"rows_per_epoch": 1}, "'large' would get none of 1 rows"),
        ([{"name": "c", "data": "c.yaml"}], {}, "file 'c.yaml' of key 'data of c' exists neither"),
        ([{"name": "me", "data": "mix.yaml"}], {}, "mix.yaml is a mixture itself; list its sour"),
    ],
)
def test_mistakes_are_named(mix, body, sources, more, words):
    with pytest.raises(DataError, match=words):
        open_dataset(mix(sources, **more), body)


def test_a_source_of_another_kind_is_named(mix, hand):
    with pytest.raises(DataError, match=r"a\.yaml: its rows have 24 joints, but hand rows have 21"):
        open_dataset(mix(PLAIN), hand)
