"""Batches in plan order, whatever the threads; broken rows are counted and never change the shapes."""

import threading

import numpy as np
import pytest
import torch

from metro_ray.data.bad_rows import BadRow, BadRows
from metro_ray.data.dataset import open_dataset
from metro_ray.data.loader import LocalLoader
from metro_ray.data.normalize import IMAGENET_MEAN, IMAGENET_STD, normalize_images
from metro_ray.data.plan import EpochPlan
from metro_ray.data.sample import Sample, batch_from_arrays, collate, stack_samples
from metro_ray.data.transform import SampleTransform, load_row
from metro_ray.errors import DataError

from .conftest import write_dataset

NUM_ROWS = 11


@pytest.fixture
def dataset(tmp_path, body):
    broken = {3: b"no picture", 8: b""}
    return open_dataset(write_dataset(tmp_path, body, NUM_ROWS, images=broken), body)


def make_loader(dataset, body, threads=2, limit=10, bad_rows=None, rank=0, **changes):
    plan = EpochPlan(**{"num_rows": len(dataset), "batch_size": 2, "world_size": 2} | changes)
    return LocalLoader(
        dataset,
        SampleTransform(body, train=True, seed=5),
        plan,
        bad_rows=BadRows(limit) if bad_rows is None else bad_rows,
        rank=rank,
        num_threads=threads,
    )


def same(first, second):
    return first.keys == second.keys and all(
        torch.equal(getattr(first, name), getattr(second, name)) for name in Sample._fields
    )


def test_batches_do_not_depend_on_threads(dataset, body):
    expected = list(make_loader(dataset, body, threads=0))
    for threads in (1, 3):
        found = list(make_loader(dataset, body, threads=threads))
        assert len(found) == len(expected)
        assert all(map(same, found, expected))


def test_rows_come_in_the_order_of_the_plan(dataset, body):
    loader = make_loader(dataset, body, rank=1)
    plan = EpochPlan(num_rows=NUM_ROWS, batch_size=2, world_size=2)
    found = np.concatenate([batch.row_id.numpy() for batch in loader])
    np.testing.assert_array_equal(found, plan.rank_rows(1))
    assert len(loader) == plan.num_batches


def test_resuming_inside_an_epoch(dataset, body):
    whole = list(make_loader(dataset, body, epoch=4))
    rest = list(make_loader(dataset, body, epoch=4, start_row=8))
    assert len(rest) == 1
    assert same(rest[0], whole[2])


def test_broken_rows_keep_their_place_and_are_reported(dataset, body):
    bad_rows = BadRows(10)
    seen = {}
    for rank in (0, 1):
        for batch in make_loader(dataset, body, rank=rank, bad_rows=bad_rows):
            assert batch.image.shape[1:] == (3, 224, 224)
            for i, row in enumerate(batch.row_id.tolist()):
                seen[row] = (bool(batch.valid[i]), bool(batch.has_mesh[i]), batch.keys[i])
    assert sorted(seen) == list(range(NUM_ROWS))
    assert sorted(row for row, (valid, _, _) in seen.items() if not valid) == [3, 8]
    assert seen[3] == (False, False, "seq/image_003.jpg")
    assert [row.row_id for row in bad_rows.rows()] == [3, 8]
    assert "seq/image_003.jpg" in bad_rows.describe()
    assert "empty" in bad_rows.rows()[1].reason


def test_too_many_broken_rows_stop_the_run(dataset, body):
    with pytest.raises(DataError, match=r"2 rows cannot be read.*allows 1") as caught:
        list(make_loader(dataset, body, limit=1, world_size=1))
    assert "seq/image_003.jpg" in str(caught.value)
    assert "seq/image_008.jpg" in str(caught.value)


def test_stopping_early_leaves_no_threads(dataset, body):
    before = threading.active_count()
    for _ in make_loader(dataset, body, threads=3):
        break
    assert threading.active_count() == before


def test_fillers_are_read_but_do_not_count(dataset, body):
    transform = SampleTransform(body, train=False)
    sample, key, problem = load_row(dataset, transform, ~5, 0)
    assert problem is None
    assert (sample.row_id, key) == (5, "seq/image_005.jpg")
    assert sample.image.any()
    flags = (sample.valid, sample.has_mesh, sample.has_joints_3d, sample.has_keypoints_2d)
    assert not any(flags)


def test_errors_that_are_not_about_data_are_not_swallowed(dataset, body):
    def broken(row, row_id, epoch, turn):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        load_row(dataset, broken, 0, 0)


# ---------------------------------------------------------------------------------------- bad rows


def test_a_row_counts_once():
    bad_rows = BadRows(1)
    bad_rows.add(BadRow(3, "a", "x"))
    bad_rows.add(BadRow(3, "a", "x"))
    assert len(bad_rows) == 1
    with pytest.raises(DataError, match="2 rows"):
        bad_rows.add(BadRow(4, "b", "y"))


def test_no_broken_rows_allowed():
    with pytest.raises(DataError, match="allows 0"):
        BadRows(0, "train.yaml").extend([BadRow(0, "a", "x")])


# ----------------------------------------------------------------------------------------- batches


def test_arrays_travel_and_become_batches(dataset, body):
    transform = SampleTransform(body, train=False)
    samples = [transform(dataset.row(i), i) for i in (0, 1)]
    arrays = stack_samples(samples)
    for array in arrays.values():
        array.setflags(write=False)  # as they come out of an object store
    batch = batch_from_arrays(arrays, ["a", "b"])
    assert same(batch, collate(samples, ["a", "b"]))
    assert batch.num_rows == 2
    assert batch.has_mesh.dtype == torch.bool
    assert batch.row_id.dtype == torch.int64


def test_batches_move(dataset, body):
    batch = next(iter(make_loader(dataset, body)))
    moved = batch.to("meta")
    assert all(getattr(moved, name).device.type == "meta" for name in Sample._fields)
    assert moved.keys == batch.keys


# ---------------------------------------------------------------------------------------- normalise


def test_normalisation_clips_after_the_gain_and_before_the_division():
    image = torch.tensor([0, 100, 250], dtype=torch.uint8).reshape(1, 3, 1, 1)
    gain = torch.tensor([[1.4, 0.5, 1.4]])
    expected = [
        (value - m) / s for value, m, s in zip((0, 50 / 255, 1.0), IMAGENET_MEAN, IMAGENET_STD)
    ]
    np.testing.assert_allclose(normalize_images(image, gain).flatten(), expected, rtol=1e-6)
    padding = normalize_images(torch.zeros(1, 3, 1, 1, dtype=torch.uint8)).flatten()
    np.testing.assert_allclose(padding, [-2.118, -2.036, -1.804], atol=1e-3)
    assert padding.dtype == torch.float32
