"""What the ranks get: the plan's batches, bad rows, errors; `test_ledger.py` counts rows."""

import threading
import time

import numpy as np
import pytest
from small_rows import write_rows

from metro_ray.cluster.data import RayDataSource
from metro_ray.cluster.stream import StreamSettings, cut_chunks
from metro_ray.data.plan import EpochPlan
from metro_ray.errors import DataError
from metro_ray.training.data_source import LocalDataSource

from .conftest import BROKEN, NUM_TRAIN, NUM_VAL
from .ranks import SPEC, Ranks, counted_rows


@pytest.mark.ray
def test_two_ranks_get_the_plans_batches_and_both_know_the_bad_rows(ray_cluster, make_config):
    config = make_config()
    good = [row for row in range(NUM_TRAIN) if row not in BROKEN]
    orders = []
    with Ranks(config, ray_cluster, 2, slow=1) as ranks:
        for epoch in range(2):
            results = ranks.run(lambda source, epoch=epoch: source.train_batches(epoch))
            plan = EpochPlan(
                num_rows=NUM_TRAIN,
                batch_size=4,
                world_size=2,
                seed=config.optim.seed,
                epoch=epoch,
            )
            assert counted_rows(results) == good
            for rank, batches in enumerate(results):
                assert len(batches) == plan.num_batches == ranks.sources[rank].num_train_batches()
                for batch, planned in zip(batches, plan.rank_batches(rank), strict=True):
                    rows = np.where(planned < 0, ~planned, planned)
                    assert batch.row_id.tolist() == rows.tolist()
            orders.append([int(r) for b in results[0] for r in b.row_id])
            seen = ranks.run(lambda source: source.eval_batches())
            assert counted_rows(seen) == list(range(NUM_VAL))
        assert orders[0] != orders[1]
        for source in ranks.sources:
            report = source.bad_rows()
            assert report["count"] == len(BROKEN)
            assert [row["key"] for row in report["rows"]] == [f"row{row}.jpg" for row in BROKEN]
            assert "cannot be decoded" in report["rows"][0]["reason"]


@pytest.mark.ray
def test_batches_are_those_of_the_local_source_bit_by_bit(ray_cluster, make_config):
    config = make_config()
    local = LocalDataSource(config, SPEC)
    with Ranks(config, ray_cluster, 1) as ranks:
        [streamed] = ranks.run(lambda source: source.train_batches(1))
    for ours, theirs in zip(streamed, local.train_batches(1), strict=True):
        assert ours.keys == theirs.keys
        for name in ours._fields[:-1]:
            a, b = getattr(ours, name), getattr(theirs, name)
            assert a.dtype == b.dtype, name
            assert a.equal(b), name


@pytest.mark.ray
def test_an_epoch_resumes_at_a_batch(ray_cluster, make_config):
    with Ranks(make_config(), ray_cluster, 1) as ranks:
        [whole] = ranks.run(lambda source: source.train_batches(0))
        [rest] = ranks.run(lambda source: source.train_batches(0, 36))
    assert [b.row_id.tolist() for b in rest] == [b.row_id.tolist() for b in whole[9:]]
    assert all(a.image.equal(b.image) for a, b in zip(rest, whole[9:], strict=True))


@pytest.mark.ray
def test_too_many_bad_rows_stop_the_run_and_are_named(ray_cluster, make_config):
    config = make_config(**{"data.max_bad_rows": 1})
    source = RayDataSource(
        config, SPEC, ray_cluster, rank=0, world_size=1, gather=lambda value: [value]
    )
    try:
        with pytest.raises(DataError, match=r"2 rows cannot be read(.|\n)*row31.jpg"):
            list(source.train_batches(0))
    finally:
        source.close()


@pytest.mark.ray
def test_an_abandoned_stream_gives_its_tasks_back(ray_cluster, make_config):
    source = RayDataSource(
        make_config(), SPEC, ray_cluster, rank=0, world_size=1, gather=lambda value: [value]
    )
    batches = source.train_batches(0)
    next(batches)
    batches.close()
    source.close()
    deadline = time.monotonic() + 30
    while any(
        t.name.startswith(("batch-stream", "StreamingExecutor")) for t in threading.enumerate()
    ):
        assert time.monotonic() < deadline, [t.name for t in threading.enumerate()]
        time.sleep(0.1)


@pytest.mark.ray
def test_a_data_file_that_goes_away_is_told_in_our_words(ray_cluster, make_config, tmp_path):
    path = write_rows(tmp_path, "train", 12)
    config = make_config(**{"data.train_yaml": str(path)})
    source = RayDataSource(
        config, SPEC, ray_cluster, rank=0, world_size=1, gather=lambda value: [value]
    )
    (tmp_path / "train.img.tsv").unlink()
    try:
        with pytest.raises(DataError, match=r"train.img.tsv does not exist"):
            list(source.train_batches(0))
    finally:
        source.close()


@pytest.mark.parametrize(
    ("rows", "block", "first"), [(53, 5, 4), (64, 64, 16), (3, 64, 16), (1, 1, 1)]
)
def test_chunks_cover_the_rows_in_order(rows, block, first):
    chunks = cut_chunks(np.arange(rows), block, first=first)
    assert np.concatenate(chunks).tolist() == list(range(rows))
    assert len(chunks[0]) <= first
    assert all(len(chunk) <= block for chunk in chunks)


@pytest.mark.parametrize(("tasks", "rows"), [(1, 512), (2, 256), (4, 128), (8, 64), (100, 64)])
def test_few_tasks_are_long_and_many_are_short(tasks, rows):
    """Every CPU gets at least two tasks of a window, and no task has less than a block."""
    settings = StreamSettings(
        block_rows=64, concurrent_tasks=tasks, prefetch_batches=2, task_cpus=1.0, pin_memory=False
    )
    assert settings.task_rows == rows
