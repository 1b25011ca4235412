"""Every row once per epoch, equally many batches on every rank, an order that only the seed knows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.data.plan import EpochPlan, Share, decode_entry
from metro_ray.errors import DataError


@st.composite
def shares(draw):
    """Sources of a mixture, each with some rows for an epoch; none for a plain data set."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 150)), max_size=3))
    first = np.cumsum([0, *(rows for rows, _ in sizes)]).tolist()
    return tuple(Share(start, *size) for start, size in zip(first, sizes, strict=False))


@st.composite
def plans(draw, mixed=None):
    """Any plan; `mixed` True has shares, False has none."""
    parts = draw(shares()) if mixed is None else () if not mixed else draw(shares().filter(bool))
    num_rows = sum(part.num_rows for part in parts) or draw(st.integers(1, 400))
    return EpochPlan(
        num_rows=num_rows,
        batch_size=draw(st.integers(1, 40)),
        world_size=draw(st.integers(1, 9)),
        seed=draw(st.integers(0, 5)),
        epoch=draw(st.integers(0, 5)),
        shuffle=bool(parts) or draw(st.booleans()),
        shares=parts,
    )


def all_rows(plan):
    return [plan.rank_rows(rank) for rank in range(plan.world_size)]


def counted(plan):
    rows = np.concatenate(all_rows(plan))
    return sorted(rows[rows >= 0].tolist())


@given(plans(mixed=False))
@settings(max_examples=200, deadline=None)
def test_every_row_exactly_once_over_all_ranks(plan):
    assert counted(plan) == list(range(plan.num_rows))


@given(plans())
@settings(max_examples=200, deadline=None)
def test_every_entry_of_the_order_exactly_once_over_all_ranks(plan):
    assert counted(plan) == sorted(plan.order().tolist())
    assert len(set(plan.order().tolist())) == plan.rows_per_epoch


@given(plans())
@settings(max_examples=200, deadline=None)
def test_every_rank_has_the_same_number_of_batches_and_none_is_empty(plan):
    for rank in range(plan.world_size):
        sizes = [len(rows) for rows in plan.rank_batches(rank)]
        assert len(sizes) == plan.num_batches
        assert all(size == plan.batch_size for size in sizes[:-1])
        assert 1 <= sizes[-1] <= plan.batch_size


@given(plans())
@settings(max_examples=200, deadline=None)
def test_the_last_batches_differ_by_at_most_one_row(plan):
    last = [int((plan.rank_batches(r)[-1] >= 0).sum()) for r in range(plan.world_size)]
    assert max(last) - min(last) <= 1


@given(plans(), st.data())
@settings(max_examples=200, deadline=None)
def test_resuming_at_a_batch_gives_the_rest_of_the_epoch(plan, data):
    batches = data.draw(st.integers(0, plan.rows_per_epoch // plan.global_batch_size))
    rest = replace(plan, start_row=batches * plan.global_batch_size)
    assert rest.num_batches == plan.num_batches - batches
    for rank in range(plan.world_size):
        skipped = plan.rank_rows(rank)[batches * plan.batch_size :]
        np.testing.assert_array_equal(rest.rank_rows(rank), skipped)


@given(plans(), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), max_size=4))
@settings(max_examples=200, deadline=None)
def test_an_epoch_that_goes_on_with_other_ranks_has_every_entry_once(plan, parts):
    """Ranks come and go at any step: (ranks, steps) one after the other, then the rest."""
    seen = []
    for world_size, steps in parts:
        plan = replace(plan, world_size=world_size)
        for rank in range(world_size):
            seen += [row for batch in plan.rank_batches(rank)[:steps] for row in batch.tolist()]
        done = plan.start_row + steps * plan.global_batch_size
        plan = replace(plan, start_row=min(done, plan.rows_per_epoch))
    seen = [entry for entry in seen if entry >= 0] + counted(plan)
    assert sorted(seen) == sorted(plan.order().tolist())


@given(plans())
@settings(max_examples=100, deadline=None)
def test_full_global_batches_follow_the_order_of_the_epoch(plan):
    """Rank r's k-th batch is the r-th slice of the k-th global batch, for any way to divide it."""
    order = plan.order()
    full = plan.rows_per_epoch // plan.global_batch_size
    for k in range(full):
        batch = np.concatenate(
            [rows[k * plan.batch_size :][: plan.batch_size] for rows in all_rows(plan)]
        )
        start = k * plan.global_batch_size
        np.testing.assert_array_equal(batch, order[start : start + plan.global_batch_size])


@given(plans())
@settings(max_examples=100, deadline=None)
def test_fillers_repeat_an_entry_of_the_same_last_batch(plan):
    tail = plan.order()[plan.rows_per_epoch // plan.global_batch_size * plan.global_batch_size :]
    for rows in all_rows(plan):
        for entry in rows[rows < 0].tolist():
            assert ~entry in tail
            assert decode_entry(entry, plan.num_rows).is_filler
            assert decode_entry(entry, plan.num_rows)[:2] == decode_entry(~entry, plan.num_rows)[:2]


@given(plans(mixed=True), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_no_row_is_taken_twice_more_often_than_another_of_its_source(plan, epochs):
    """At any row of any epoch, not only at their ends."""
    counts = np.zeros(plan.num_rows, int)
    for epoch in range(epochs):
        for entry in replace(plan, epoch=epoch).order().tolist():
            row, turn, is_filler = decode_entry(entry, plan.num_rows)
            assert not is_filler
            counts[row] += 1
            source = next(
                part
                for part in plan.shares
                if part.first_row <= row < part.first_row + part.num_rows
            )
            theirs = counts[source.first_row : source.first_row + source.num_rows]
            assert counts[row] - theirs.min() <= 1
            assert turn <= source.rows_per_epoch // source.num_rows + 1
    for part in plan.shares:
        taken = counts[part.first_row : part.first_row + part.num_rows].sum()
        assert taken == epochs * part.rows_per_epoch


def test_the_sources_of_a_mixture_are_shuffled_into_each_other():
    plan = EpochPlan(num_rows=1000, batch_size=1, shares=(Share(0, 900, 500), Share(900, 100, 500)))
    first_half = plan.order()[:500] % 1000
    assert 200 < (first_half < 900).sum() < 300
    assert plan.order().tolist() == replace(plan, batch_size=7, world_size=3).order().tolist()
    assert plan.order().tolist() != replace(plan, epoch=1).order().tolist()
    assert plan.order().tolist() != replace(plan, seed=1).order().tolist()


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
        ({"start_row": 11}, "the data set has changed"),
    ],
)
def test_impossible_plans_are_refused(changes, words):
    with pytest.raises(DataError, match=words):
        EpochPlan(**{"num_rows": 10, "batch_size": 2, "world_size": 2, **changes})


def test_impossible_shares_are_refused():
    plan = EpochPlan(num_rows=10, batch_size=2, world_size=2)
    with pytest.raises(DataError, match="rank"):
        plan.rank_rows(2)
    with pytest.raises(ValueError, match="shuffled"):
        replace(plan, shares=(Share(0, 10, 5),), shuffle=False)
