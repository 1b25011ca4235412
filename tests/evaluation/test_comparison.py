import numpy as np
import pytest
from result_tables import make_table, write_results

from metro_ray.errors import DataError
from metro_ray.evaluation.comparison import compare, comparison_text, setting_differences


@pytest.fixture
def two(tmp_path):
    """Evaluations of the same rows; B is worse by 1 mm, better by 60 mm in row 3, equal in row 5."""
    table = make_table(12)
    change = np.full(12, 0.001)
    change[3], change[5] = -0.06, 0.0
    a = write_results(tmp_path / "a", table, overrides={"optim.lr": 1e-4})
    b = write_results(
        tmp_path / "b", table._replace(mpve=table.mpve + change), overrides={"optim.lr": 3e-4}
    )
    return a, b


def test_rows_that_changed_most_come_first(two):
    found = compare(*two, num_rows=3)
    assert [row.key for row in found.improved] == ["seq/image_00003.jpg"]
    assert found.improved[0].row_id == 6
    assert found.improved[0].difference_mm == pytest.approx(-60.0)
    assert len(found.worsened) == 3
    assert all(row.difference_mm == pytest.approx(1.0) for row in found.worsened)
    assert not {"seq/image_00003.jpg", "seq/image_00005.jpg"} & {r.key for r in found.worsened}
    assert compare(*two, num_rows=0).improved == []


def test_settings_that_differ_are_named_but_not_the_folder(two):
    assert [tuple(one) for one in compare(*two).settings] == [("optim.lr", "0.0001", "0.0003")]


def test_another_environment_is_named(two):
    a, b = two
    moved = b._replace(meta=b.meta | {"environment": {"device": "cuda", "torch": "9.9"}})
    assert compare(a, b).environment == []
    assert [tuple(one) for one in compare(a, moved).environment] == [("device", "cpu", "cuda")]
    assert comparison_text(compare(a, moved), ("A", "B")).endswith("\ndevice       cpu  cuda")


def test_settings_of_another_version_are_shown_with_a_dash():
    found = setting_differences(
        {"optim": {"lr": 1, "gone": [1, 2]}}, {"optim": {"lr": 1, "new": 3}}
    )
    assert [tuple(one) for one in found] == [("optim.gone", "1, 2", "-"), ("optim.new", "-", "3")]


def test_another_protocol_and_rows_of_one_side_are_warned_of(two, tmp_path):
    a, _ = two
    turned = write_results(tmp_path / "c", make_table(15), overrides={"eval.rotation_deg": 30.0})
    warnings = compare(a, turned).warnings
    assert warnings[-1] == "rows of one evaluation only are left out: 0 of A, 3 of B"
    assert any(text.startswith("views: A has 'scale 1, rotation 0 deg") for text in warnings)


def test_rows_that_only_one_side_measured_are_refused(tmp_path):
    half = np.arange(4) < 2
    a = write_results(tmp_path / "a", make_table(4, mesh=half, joints=half))
    b = write_results(tmp_path / "b", make_table(4, mesh=~half, joints=~half))
    with pytest.raises(DataError, match="share 4 rows, but none that both measured"):
        compare(a, b)


def test_the_text_has_all_of_it(two):
    lines = comparison_text(compare(*two), ("old", "new")).splitlines()
    assert lines[0] == "A  old  (epoch-001.parquet, 12 rows)"
    mpve = next(line for line in lines if line.startswith("MPVE"))
    mean = (10 * 1.0 - 60.0) / 12
    assert f"{mean:+.2f}" in mpve
    assert mpve.split()[-2:] == ["1", "10"]
    assert any(line.startswith("PA error by joint") for line in lines)
    assert any(line.startswith("less MPVE in B") for line in lines)
    assert lines[-1].split() == ["optim.lr", "0.0001", "0.0003"]
    assert all(line == line.rstrip() for line in lines)
