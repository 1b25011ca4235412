"""Tables and files of evaluation results with invented errors, for tests of what reads them."""

import numpy as np

from metro_ray.bodies.joints import J14
from metro_ray.bodies.spec import get_spec
from metro_ray.config.load import load_config, to_dict
from metro_ray.evaluation.figures import figures_of
from metro_ray.evaluation.per_sample import epoch_file, read_per_sample, write_per_sample
from metro_ray.evaluation.protocols import protocol_of
from metro_ray.evaluation.result import EvaluationTable

META = {"kind": "body", "joints": list(J14.names), "epoch": 1, "protocol": {"name": "open"}}


def make_table(rows, seed=0, mesh=None, joints=None, factor=1.0):
    """Gamma-distributed errors; `factor` on all of them."""
    rng = np.random.default_rng(seed)
    errors = (factor * rng.gamma(4.0, 0.02, (rows, 14))).astype(np.float32)
    aligned = (0.7 * errors).astype(np.float32)
    accel = rng.uniform(0, 0.01, rows)
    accel[::3] = np.nan
    return EvaluationTable(
        row_id=np.arange(rows) * 2,
        keys=tuple(f"seq/image_{i:05d}.jpg" for i in range(rows)),
        source=rng.integers(0, 3, rows),
        mpjpe=errors.mean(axis=1, dtype=np.float64),
        pa_mpjpe=aligned.mean(axis=1, dtype=np.float64),
        mpve=factor * rng.gamma(4.0, 0.03, rows),
        pa_mpve=factor * rng.gamma(4.0, 0.02, rows),
        accel=accel,
        has_joints_3d=np.ones(rows, bool) if joints is None else joints,
        has_mesh=np.ones(rows, bool) if mesh is None else mesh,
        joint_errors=errors,
        pa_joint_errors=aligned,
    )


def write_results(run_dir, table, epoch=1, overrides=None):
    """Results of an evaluation as a run leaves them; read back."""
    settings = {"model.mesh": "anny_body", "run.output_dir": str(run_dir), **(overrides or {})}
    config = load_config("body", overrides=settings)
    figures = figures_of(table, "body", J14.names)
    averages = {"processes": 3, "batch_size": 30, "mpve_mm": 81.5, "mpjpe_mm": 79.5}
    meta = META | {
        "epoch": epoch,
        "config": to_dict(config),
        "protocol": protocol_of(config, get_spec(config.model.mesh)).values(),
        "means": figures.means,
        "metro_averages": {**averages, "pa_mpjpe_mm": None},
        "environment": {"device": "cpu", "torch": "9.9"},
    }
    path = epoch_file(run_dir, epoch)
    write_per_sample(path, table, meta)
    return read_per_sample(path)
