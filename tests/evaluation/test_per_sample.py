import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_tables import META, make_table, write_results

from metro_ray.bodies.joints import J14
from metro_ray.errors import DataError
from metro_ray.evaluation.figures import figures_of
from metro_ray.evaluation.per_sample import (
    epoch_file,
    find_results,
    keep_best_and_last,
    read_per_sample,
    write_per_sample,
)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.data())
def test_a_file_gives_back_the_same_figures(tmp_path_factory, rows, data):
    flags = st.lists(st.booleans(), min_size=rows, max_size=rows)
    mesh, joints = (np.array(data.draw(flags), bool) for _ in range(2))
    table = make_table(rows, mesh=mesh, joints=joints)
    path = tmp_path_factory.mktemp("rows") / "epoch-001.parquet"
    write_per_sample(path, table, META)
    back = read_per_sample(path)
    assert back.table.keys == table.keys
    np.testing.assert_array_equal(back.table.source, table.source)
    ours, theirs = back.figures, figures_of(table, "body", J14.names)
    assert ours.counts == theirs.counts | {"accel_frames": ours.counts["accel_frames"]}
    assert ours.means == pytest.approx(theirs.means, abs=1e-9, nan_ok=True)
    for mine, other in zip(ours.joints, theirs.joints, strict=True):
        assert mine.mpjpe_mm == pytest.approx(other.mpjpe_mm, abs=1e-4, nan_ok=True)


def test_other_tools_read_millimetres(tmp_path):
    table = make_table(4, mesh=np.array([True, False, True, True]))
    write_per_sample(tmp_path / "a.parquet", table, META)
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert rows[0]["mpjpe_mm"] == 1000 * table.mpjpe[0]
    assert rows[1]["mpve_mm"] is None
    assert rows[0]["accel_mm"] is None
    assert len(rows[0]["joint_errors_mm"]) == 14


def test_the_best_and_the_last_epoch_are_kept(tmp_path):
    for epoch, value in enumerate((60.0, 40.0, 50.0, 45.0, math.nan), start=1):
        meta = META | {"epoch": epoch, "means": {"pa_mpjpe_mm": value, "mpjpe_mm": 99.0}}
        write_per_sample(epoch_file(tmp_path, epoch), make_table(2), meta)
        keep_best_and_last(tmp_path)
    left = sorted(path.name for path in (tmp_path / "per_sample").iterdir())
    assert left == ["epoch-002.parquet", "epoch-005.parquet"]


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"none\.parquet do not exist"):
        read_per_sample(tmp_path / "none.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet: not per-sample results"):
        read_per_sample(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(DataError, match=r"text\.parquet: not a readable Parquet file"):
        read_per_sample(tmp_path / "text.parquet")


def test_a_run_is_represented_by_its_best_epoch(tmp_path):
    for epoch, factor in ((2, 1.0), (4, 0.8), (5, 1.2)):
        write_results(tmp_path, make_table(6, factor=factor), epoch)
    assert find_results(tmp_path).meta["epoch"] == 4
    assert find_results(epoch_file(tmp_path, 5)).meta["epoch"] == 5


def test_a_folder_without_results_is_told_what_writes_them(tmp_path):
    with pytest.raises(DataError, match=r"has no per-sample results .*jobs/eval_body\.py"):
        find_results(tmp_path)
