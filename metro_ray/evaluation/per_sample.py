"""Per-sample results as a Parquet file: a row a sample, and what the figures are about beside it.

Columns: `row_id`, `key`, `source` (which file of a composite data set), the errors in millimetres
(`mpjpe_mm`, `pa_mpjpe_mm`, `mpve_mm`, `pa_mpve_mm`, `accel_mm`; null without the label), and the
joints' errors as float32 lists (`joint_errors_mm`, `pa_joint_errors_mm`). The file's own metadata
holds, under `metro_ray`, JSON with protocol, mesh, joint names, settings and figures.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Float32

from metro_ray.config.load import to_dict
from metro_ray.errors import DataError
from metro_ray.evaluation.figures import TITLES, Figures, figures_of, shown
from metro_ray.evaluation.protocols import protocol_of
from metro_ray.evaluation.result import ERROR_NAMES, EvaluationTable
from metro_ray.training.files import null_for_nan, write_bytes
from metro_ray.training.system import describe_environment

if TYPE_CHECKING:
    import torch

    from metro_ray.bodies.spec import MeshSpec
    from metro_ray.config.schema import TrainConfig
    from metro_ray.evaluation.result import EvaluationResult

FOLDER = "per_sample"
METRO_NAMES = ("mpve", "mpjpe", "pa_mpjpe")
"""Errors that METRO averages, in the order of its line."""
_META = b"metro_ray"
_FORMAT = 1
_EPOCH = re.compile(r"epoch-(\d+)\.parquet")
_RANKED_BY = ("pa_mpjpe_mm", "mpjpe_mm", "mpve_mm")


class PerSample(NamedTuple):
    """An evaluation as its file holds it."""

    path: Path
    table: EvaluationTable
    meta: dict[str, Any]
    """See `describe_result`."""

    @property
    def figures(self) -> Figures:
        """All figures, computed from the rows."""
        return figures_of(self.table, self.meta["kind"], tuple(self.meta["joints"]))


def epoch_file(run_dir: Path, epoch: int) -> Path:
    """Where the results of a validation lie in a run's folder; epoch 0 for an evaluation alone."""
    return run_dir / FOLDER / f"epoch-{epoch:03d}.parquet"


def describe_result(
    config: TrainConfig,
    spec: MeshSpec,
    result: EvaluationResult,
    *,
    epoch: int,
    world_size: int,
    device: torch.device,
) -> dict[str, Any]:
    """What the rows of an evaluation are about, as plain values.

    `kind`, `joints` (names), `protocol`, `epoch`, `config` (as `to_dict` gives it), `means` (of
    `figures.TITLES`), `environment` (machine and versions), and `metro_averages`: what METRO's own
    averaging makes of the rows with so many `processes` and `batch_size`, millimetres.

    Args:
        config: of the run.
        spec: of the mesh.
        result: of the evaluation.
        epoch: complete epochs of the run; 0 for an evaluation alone.
        world_size: processes that evaluated.
        device: of this one.
    """
    batch_size = config.eval.per_gpu_batch_size
    averages = result.table.metro_averages(batch_size, world_size)
    return {
        "kind": config.kind,
        "joints": list(spec.joints.names),
        "protocol": protocol_of(config, spec).values(),
        "epoch": epoch,
        "config": to_dict(config),
        "means": result.figures.means,
        "metro_averages": {
            "processes": world_size,
            "batch_size": batch_size,
            **{f"{name}_mm": 1000.0 * getattr(averages, name) for name in METRO_NAMES},
        },
        "environment": describe_environment(device),
    }


def averages_line(averages: Mapping[str, float | None]) -> str:
    """METRO's own averages of `describe_result` in words; they depend on how rows were shared."""
    parts = [
        f"{TITLES[f'{name}_mm'][0]} {shown(f'{name}_mm', math.nan if value is None else value)}"
        for name in METRO_NAMES
        for value in (averages[f"{name}_mm"],)
    ]
    return (
        f"METRO's own averaging of the same rows ({averages['processes']} processes, batches of "
        f"{averages['batch_size']}): {', '.join(parts)}"
    )


def write_per_sample(path: Path, table: EvaluationTable, meta: Mapping[str, Any]) -> None:
    """Write the rows of an evaluation, whole or not at all.

    Args:
        path: of the file; its folder is made.
        table: rows of all processes.
        meta: plain values, see `describe_result`.
    """
    labels = {"mpjpe": table.has_joints_3d, "pa_mpjpe": table.has_joints_3d}
    labels |= {"mpve": table.has_mesh, "pa_mpve": table.has_mesh}
    columns: dict[str, pa.Array] = {
        "row_id": pa.array(table.row_id),
        "key": pa.array(table.keys, pa.string()),
        "source": pa.array(table.source.astype(np.int32)),
    }
    for name in ERROR_NAMES:
        columns[f"{name}_mm"] = _millimetres(getattr(table, name), labels[name])
    columns["accel_mm"] = _millimetres(table.accel, np.isfinite(table.accel))
    for name in ("joint_errors", "pa_joint_errors"):
        columns[f"{name}_mm"] = _lists(getattr(table, name), table.has_joints_3d)
    values = {"format": _FORMAT, **null_for_nan(meta)}
    text = json.dumps(values, allow_nan=False)
    whole = pa.table(columns).replace_schema_metadata({_META: text.encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(whole, sink, compression="zstd")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_per_sample(path: Path) -> PerSample:
    """Read what `write_per_sample` wrote.

    Raises:
        DataError: the file is missing, broken or of another kind.
    """
    try:
        whole = pq.read_table(path)
    except FileNotFoundError as error:
        raise DataError(
            f"per-sample results {path} do not exist: expected the folder of a run or of an "
            f"evaluation, or a file of its {FOLDER}/ (epoch-NNN.parquet)"
        ) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from error
    meta = _meta_of(path, whole.schema.metadata)
    numbers = {name: _numbers(whole[f"{name}_mm"]) for name in (*ERROR_NAMES, "accel")}
    num_joints = len(meta["joints"])
    table = EvaluationTable(
        row_id=whole["row_id"].to_numpy(),
        keys=tuple(whole["key"].to_pylist()),
        source=whole["source"].to_numpy().astype(np.int64),
        has_joints_3d=np.isfinite(numbers["mpjpe"]),
        has_mesh=np.isfinite(numbers["mpve"]),
        joint_errors=_joints(whole["joint_errors_mm"], num_joints),
        pa_joint_errors=_joints(whole["pa_joint_errors_mm"], num_joints),
        **numbers,
    )
    return PerSample(path, table, meta)


def find_results(path: Path) -> PerSample:
    """The results that a path names: a file, or of a run's folder those of its best epoch.

    The best is the one that checkpoints are ranked by: of the lowest PA-MPJPE where joints are
    labelled.

    Raises:
        DataError: there are none, with what to do.
    """
    if not path.is_dir():
        return read_per_sample(path)
    found = sorted((path / FOLDER).glob("epoch-*.parquet"))
    if not found:
        raise DataError(
            f"{path} has no per-sample results ({FOLDER}/epoch-NNN.parquet): they are written by "
            "validations of a training and by jobs/eval_body.py and jobs/eval_hand.py; evaluate "
            "its checkpoint, or name a Parquet file of results"
        )
    return read_per_sample(min(found, key=_rank))


def keep_best_and_last(run_dir: Path) -> None:
    """Remove the results of epochs that are neither the best so far nor the last."""
    found = {
        int(match[1]): path
        for path in (run_dir / FOLDER).glob("epoch-*.parquet")
        if (match := _EPOCH.fullmatch(path.name)) and int(match[1]) > 0
    }
    if len(found) < 3:
        return
    best = min(found, key=lambda epoch: (_rank(found[epoch]), epoch))
    for epoch in found.keys() - {best, max(found)}:
        found[epoch].unlink()


def _rank(path: Path) -> float:
    means = _meta_of(path, pq.read_schema(path).metadata).get("means", {})
    values = (means.get(name) for name in _RANKED_BY)
    return next((value for value in values if value is not None), math.inf)


def _meta_of(path: Path, metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    text = (metadata or {}).get(_META)
    meta = {} if text is None else json.loads(text)
    if meta.get("format") != _FORMAT:
        raise DataError(
            f"{path}: not per-sample results of metro_ray (format {_FORMAT}); expected a file that "
            "an evaluation wrote, such as RUN/per_sample/epoch-001.parquet"
        )
    return meta


def _millimetres(errors: Float[np.ndarray, " N"], exists: Bool[np.ndarray, " N"]) -> pa.Array:
    return pa.array(1000.0 * errors, mask=~exists)


def _lists(errors: Float32[np.ndarray, "N J"], exists: Bool[np.ndarray, " N"]) -> pa.Array:
    flat = pa.array((1000.0 * errors).astype(np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, errors.shape[1], mask=pa.array(~exists))


def _numbers(column: pa.ChunkedArray) -> Float[np.ndarray, " N"]:
    return column.to_numpy(zero_copy_only=False).astype(np.float64) / 1000.0


def _joints(column: pa.ChunkedArray, num_joints: int) -> Float32[np.ndarray, "N J"]:
    rows = np.full((len(column), num_joints), np.nan, np.float32)
    exists = np.asarray(column.is_valid())
    if exists.any():
        flat = column.filter(column.is_valid()).combine_chunks().flatten()
        rows[exists] = np.asarray(flat, np.float32).reshape(-1, num_joints) / 1000.0
    return rows
