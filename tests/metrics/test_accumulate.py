import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from metro_ray.metrics import MeanMeter, all_reduce_with, merge_all, weighted_mean


def test_ranks_of_unequal_size_merge_to_the_mean_over_samples():
    ranks = [{"mpjpe": MeanMeter(100 * 10.0, 100)}, {"mpjpe": MeanMeter(10 * 50.0, 10)}]
    assert merge_all(ranks)["mpjpe"].mean == 1500.0 / 110


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.data())
def test_any_split_merges_to_the_same_mean(values, data):
    cut = data.draw(st.integers(0, len(values)))
    errors, everything = torch.tensor(values, dtype=torch.float64), torch.ones(len(values)).bool()
    whole = weighted_mean(errors, everything)
    parts = [
        weighted_mean(errors[:cut], everything[:cut]),
        weighted_mean(errors[cut:], everything[cut:]),
    ]
    merged = parts[0].merge(parts[1])
    assert merged.count == whole.count
    assert abs(merged.mean - whole.mean) < 1e-9


def test_rows_that_do_not_count_may_hold_anything():
    meter = weighted_mean(torch.tensor([1.0, math.nan, 3.0]), torch.tensor([True, False, True]))
    assert meter == MeanMeter(4.0, 2)


def test_nothing_counted_is_not_a_number():
    assert math.isnan(MeanMeter().mean)


def test_a_name_missing_in_one_part_adds_nothing():
    merged = merge_all([{"a": MeanMeter(2.0, 1)}, {"a": MeanMeter(4.0, 1), "b": MeanMeter(1.0, 1)}])
    assert merged == {"a": MeanMeter(6.0, 2), "b": MeanMeter(1.0, 1)}


def test_meters_travel_through_a_sum_over_ranks():
    mine, theirs = {"mpve": MeanMeter(0.3, 3)}, {"mpve": MeanMeter(0.5, 1)}

    def sum_over_two_ranks(numbers):
        other = {"mpve/total": theirs["mpve"].total, "mpve/count": float(theirs["mpve"].count)}
        return {name: value + other[name] for name, value in numbers.items()}

    assert all_reduce_with(sum_over_two_ranks)(mine) == merge_all([mine, theirs])
