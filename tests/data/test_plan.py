"""Every row once per epoch, equally many batches on every rank, an order that only the seed knows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.data.plan import EpochPlan, is_filler, row_number
from metro_ray.errors import DataError

plans = st.builds(
    EpochPlan,
    num_rows=st.integers(1, 400),
    batch_size=st.integers(1, 40),
    world_size=st.integers(1, 9),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 5),
    shuffle=st.booleans(),
)


def all_rows(plan, start_batch=0):
    return [plan.rank_rows(rank, start_batch) for rank in range(plan.world_size)]


@given(plans)
@settings(max_examples=200, deadline=None)
def test_every_row_exactly_once_over_all_ranks(plan):
    rows = np.concatenate(all_rows(plan))
    counted = rows[rows >= 0]
    assert sorted(counted.tolist()) == list(range(plan.num_rows))


@given(plans)
@settings(max_examples=200, deadline=None)
def test_every_rank_has_the_same_number_of_batches_and_none_is_empty(plan):
    for rank in range(plan.world_size):
        sizes = [len(rows) for rows in plan.rank_batches(rank)]
        assert len(sizes) == plan.num_batches
        assert all(size == plan.batch_size for size in sizes[:-1])
        assert 1 <= sizes[-1] <= plan.batch_size


@given(plans)
@settings(max_examples=200, deadline=None)
def test_the_last_batches_differ_by_at_most_one_row(plan):
    last = [int((plan.rank_batches(r)[-1] >= 0).sum()) for r in range(plan.world_size)]
    assert max(last) - min(last) <= 1


@given(plans, st.data())
@settings(max_examples=200, deadline=None)
def test_resuming_gives_the_rest_of_the_epoch(plan, data):
    start = data.draw(st.integers(0, plan.num_batches))
    for rank in range(plan.world_size):
        whole = plan.rank_rows(rank)
        np.testing.assert_array_equal(plan.rank_rows(rank, start), whole[start * plan.batch_size :])


@given(plans)
@settings(max_examples=100, deadline=None)
def test_full_global_batches_follow_the_order_of_the_epoch(plan):
    """Rank r's k-th batch is the r-th slice of the k-th global batch, for any way to divide it."""
    order = plan.order()
    full = plan.num_rows // plan.global_batch_size
    for k in range(full):
        batch = np.concatenate(
            [rows[k * plan.batch_size :][: plan.batch_size] for rows in all_rows(plan)]
        )
        start = k * plan.global_batch_size
        np.testing.assert_array_equal(batch, order[start : start + plan.global_batch_size])


@given(plans)
@settings(max_examples=100, deadline=None)
def test_fillers_repeat_a_row_of_the_same_last_batch(plan):
    tail = plan.order()[plan.num_rows // plan.global_batch_size * plan.global_batch_size :]
    for rows in all_rows(plan):
        for entry in rows.tolist():
            if is_filler(entry):
                assert row_number(entry) in tail
            else:
                assert row_number(entry) == entry


def test_order_depends_on_seed_and_epoch_only():
    def order(**changes):
        given = {"num_rows": 100, "batch_size": 8, "world_size": 2, "seed": 3, "epoch": 1}
        return EpochPlan(**{**given, **changes}).order().tolist()

    assert order() == order(batch_size=5, world_size=7, drop_tail=True)
    assert order() != order(epoch=2)
    assert order() != order(seed=4)
    assert order(shuffle=False) == list(range(100))


def test_the_shuffle_is_global():
    """First halves of epochs take rows from everywhere, not from one half of the file."""
    first_half = EpochPlan(num_rows=1000, batch_size=1, seed=0).order()[:500]
    assert 200 < (first_half < 500).sum() < 300


def test_drop_tail_leaves_out_the_last_incomplete_global_batch():
    plan = EpochPlan(num_rows=23, batch_size=5, world_size=2, shuffle=False, drop_tail=True)
    assert plan.num_batches == 2
    assert sorted(np.concatenate(all_rows(plan)).tolist()) == list(range(20))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_rows": 0}, "no rows"),
        ({"batch_size": 0}, "batch_size"),
        ({"world_size": 0}, "world_size"),
        ({"drop_tail": True, "batch_size": 6}, "do not make one global batch"),
    ],
)
def test_impossible_plans_are_refused(changes, words):
    with pytest.raises(DataError, match=words):
        EpochPlan(**{"num_rows": 10, "batch_size": 2, "world_size": 2, **changes})


def test_impossible_shares_are_refused():
    plan = EpochPlan(num_rows=10, batch_size=2, world_size=2)
    with pytest.raises(DataError, match="rank"):
        plan.rank_rows(2)
    with pytest.raises(DataError, match="start_batch"):
        plan.rank_rows(0, start_batch=4)
