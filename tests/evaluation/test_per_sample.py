import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.bodies.joints import J14
from metro_ray.errors import DataError
from metro_ray.evaluation.figures import figures_of
from metro_ray.evaluation.per_sample import (
    epoch_file,
    keep_best_and_last,
    read_per_sample,
    write_per_sample,
)
from metro_ray.evaluation.result import EvaluationTable

META = {"kind": "body", "joints": list(J14.names), "epoch": 1, "protocol": {"name": "open"}}


def make_table(rows, seed=0, mesh=None, joints=None):
    rng = np.random.default_rng(seed)
    errors = rng.gamma(4.0, 0.02, (rows, 14)).astype(np.float32)
    aligned = (0.7 * errors).astype(np.float32)
    accel = rng.uniform(0, 0.01, rows)
    accel[::3] = np.nan
    return EvaluationTable(
        row_id=np.arange(rows) * 2,
        keys=tuple(f"seq/image_{i:05d}.jpg" for i in range(rows)),
        source=rng.integers(0, 3, rows),
        mpjpe=errors.mean(axis=1, dtype=np.float64),
        pa_mpjpe=aligned.mean(axis=1, dtype=np.float64),
        mpve=rng.gamma(4.0, 0.03, rows),
        pa_mpve=rng.gamma(4.0, 0.02, rows),
        accel=accel,
        has_joints_3d=np.ones(rows, bool) if joints is None else joints,
        has_mesh=np.ones(rows, bool) if mesh is None else mesh,
        joint_errors=errors,
        pa_joint_errors=aligned,
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
