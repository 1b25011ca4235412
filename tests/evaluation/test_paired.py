import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_tables import make_table, write_results

from metro_ray.errors import DataError
from metro_ray.evaluation.paired import (
    bootstrap_interval,
    joint_differences,
    pair_rows,
    paired_differences,
)


def shuffled(table, rows):
    columns = {name: getattr(table, name) for name in table._fields}
    names = columns.pop("keys")
    keys = tuple(names[row] for row in rows)
    return type(table)(keys=keys, **{name: column[rows] for name, column in columns.items()})


def test_rows_are_paired_by_number_and_key_whatever_their_order(tmp_path):
    whole = make_table(9)
    a = write_results(tmp_path / "a", whole)
    b = write_results(tmp_path / "b", shuffled(whole, [7, 1, 4]))
    rows = pair_rows(a, b)
    assert rows.keys == tuple(whole.keys[row] for row in (1, 4, 7))
    assert [b.table.keys[row] for row in rows.b_rows] == list(rows.keys)
    for figure in paired_differences(a, b):
        assert (figure.mean_mm, figure.num_better, figure.num_worse) == (0.0, 0, 0)
        assert not figure.is_clear


def test_a_constant_difference_is_found_and_is_clear(tmp_path):
    table = make_table(20)
    less = table._replace(
        mpve=table.mpve - 0.002, mpjpe=table.mpjpe + 0.003 * (np.arange(20) % 4 == 0)
    )
    figures = paired_differences(
        write_results(tmp_path / "a", table), write_results(tmp_path / "b", less)
    )
    found = {figure.name: figure for figure in figures}
    mesh, joints = found["mpve_mm"], found["mpjpe_mm"]
    assert mesh.mean_mm == pytest.approx(-2.0)
    assert (mesh.low_mm, mesh.high_mm) == pytest.approx((-2.0, -2.0))
    assert mesh.is_clear
    assert (mesh.num_better, mesh.num_worse, mesh.num_rows) == (20, 0, 20)
    assert joints.mean_mm == pytest.approx(0.75)
    assert (joints.num_better, joints.num_worse) == (0, 5)
    assert found["accel_mm"].num_rows == np.isfinite(table.accel).sum() < 20


def test_rows_without_a_label_on_either_side_are_left_out(tmp_path):
    mine = make_table(6, mesh=np.array([True, True, True, False, False, False]))
    theirs = make_table(6, mesh=np.array([False, True, True, True, True, False]), factor=2.0)
    a, b = write_results(tmp_path / "a", mine), write_results(tmp_path / "b", theirs)
    mesh = next(figure for figure in paired_differences(a, b) if figure.name == "mpve_mm")
    assert mesh.num_rows == 2
    assert mesh.a_mm == pytest.approx(1000 * mine.mpve[1:3].mean())
    assert mesh.b_mm == pytest.approx(2 * mesh.a_mm)


def test_joints_by_name_average_to_the_whole(tmp_path):
    a = write_results(tmp_path / "a", make_table(8))
    b = write_results(tmp_path / "b", make_table(8, seed=1))
    whole = {figure.name: figure.mean_mm for figure in paired_differences(a, b)}
    for aligned, name in ((False, "mpjpe_mm"), (True, "pa_mpjpe_mm")):
        joints = joint_differences(a, b, aligned=aligned)
        assert [joint.name for joint in joints] == a.meta["joints"]
        mean = np.mean([joint.mean_mm for joint in joints])
        assert mean == pytest.approx(whole[name], abs=1e-3)


def test_without_joint_labels_there_are_no_joints(tmp_path):
    a = write_results(tmp_path, make_table(4, joints=np.zeros(4, bool)))
    assert joint_differences(a, a, aligned=True) == []
    assert [figure.name for figure in paired_differences(a, a)] == ["mpve_mm", "pa_mpve_mm"]


def test_evaluations_that_share_nothing_are_refused(tmp_path):
    table = make_table(4)
    a = write_results(tmp_path / "a", table)
    other = table._replace(keys=tuple(f"other/{key}" for key in table.keys))
    with pytest.raises(DataError, match="have no row in common"):
        pair_rows(a, write_results(tmp_path / "b", other))
    hand = a._replace(meta=a.meta | {"kind": "hand", "joints": ["wrist"] * 21})
    with pytest.raises(DataError, match=r"14 joints of a body, .* 21 of a hand"):
        pair_rows(a, hand)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=40))
def test_an_interval_lies_within_the_values_and_is_repeatable(values):
    numbers = np.array(values)
    low, high = bootstrap_interval(numbers)
    slack = 1e-9
    assert numbers.min() - slack <= low <= high <= numbers.max() + slack
    assert (low, high) == bootstrap_interval(numbers)


def test_an_interval_is_that_of_the_normal_distribution():
    values = np.random.default_rng(3).normal(2.0, 1.0, 4000)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.005)
