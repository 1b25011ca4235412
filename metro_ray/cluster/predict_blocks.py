"""Rows to predictions on a cluster: tasks that read and crop, actors that hold the network.

A read task makes the crops of all views of some rows; an actor turns such a block into meshes. So
decoding runs on any CPU of the cluster while a GPU computes, and of each row only crops go in and
one mesh comes out. A broken row travels as blank crops with its reason beside it, and no mesh is
predicted for it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ray.data
from jaxtyping import Int
from ray.exceptions import GetTimeoutError, RayError

from metro_ray.cluster.blocks import ENTRY, KEY, PROBLEM, PlanDatasource, store_reader
from metro_ray.cluster.failures import find_metro_error
from metro_ray.data.bad_rows import BadRow
from metro_ray.errors import CheckpointError, DataError, ResourceError
from metro_ray.evaluation.prediction_files import PredictedRows

if TYPE_CHECKING:
    from metro_ray.cluster.resources import ResourcePlan
    from metro_ray.data.rows import RowDataset
    from metro_ray.evaluation.tta import ViewPlan
    from metro_ray.evaluation.tta_pass import ViewLoader

_CROPS, _JOINTS, _VERTICES = "crops", "joints", "vertices"
_BLOCK_CROPS = 128
"""Crops of one block where a row has fewer views than this; 19 MB."""


class Predicted(NamedTuple):
    """What came of one block."""

    meshes: PredictedRows
    """Of the rows that could be read."""
    problems: tuple[BadRow, ...]


@dataclass(frozen=True, slots=True)
class ViewReader:
    """What a read task needs beside row numbers; a `blocks.BlockReader`."""

    dataset: RowDataset
    load: ViewLoader

    def block(self, entries: Int[np.ndarray, " rows"], epoch: int) -> dict[str, np.ndarray]:
        """Crops of all views of some rows, with key and problem of each row."""
        del epoch  # views are not random
        crops = np.zeros((len(entries), *self.load.shape), np.uint8)
        keys, problems = [], []
        for place, row_id in enumerate(entries.tolist()):
            keys.append(self.dataset.key_or_number(row_id))
            try:
                crops[place] = self.load(self.dataset.row(row_id))
                problems.append("")
            except DataError as error:
                problems.append(str(error))
        return {
            ENTRY: np.asarray(entries, np.int64),
            KEY: np.array(keys, dtype=object),
            PROBLEM: np.array(problems, dtype=object),
            _CROPS: crops,
        }

    def row_bytes(self) -> int:
        """Size of one loaded row."""
        return int(np.prod(self.load.shape))


class PredictActor:
    """Holds a network and predicts blocks of crops; Ray Data makes one for each GPU, or on CPUs.

    Args:
        config: the settings of the job, as `to_dict` gives them.
        views: of each row.
        use_gpu: whether this actor has a GPU.
        actors_per_node: how many share the cores of a machine.
    """

    def __init__(
        self, config: dict[str, Any], views: ViewPlan, *, use_gpu: bool, actors_per_node: int
    ) -> None:
        import torch

        from metro_ray.bodies import load_body
        from metro_ray.cluster.machine import physical_cores
        from metro_ray.config.load import from_dict
        from metro_ray.evaluation.tta_pass import ViewPredictor
        from metro_ray.models.optimise import optimised
        from metro_ray.models.weights_io import load_weights
        from metro_ray.training.builders import build_model

        torch.set_num_threads(max(1, physical_cores() // actors_per_node))
        settings = from_dict(config)
        assert settings.run.resume_checkpoint is not None
        body = load_body(settings.model.mesh, settings.assets.root)
        model = build_model(settings, body)
        load_weights(model, settings.run.resume_checkpoint)
        model.eval()
        if settings.optim.precision != "fp32":  # float32 predicts exactly as training validates
            model = optimised(model, settings.optim.precision)
        self._spec = body.spec
        self._is_fused = views.is_fused
        self._predict = ViewPredictor(
            model,
            body,
            views,
            "cuda" if use_gpu else "cpu",
            precision=settings.optim.precision,
            channels_last=settings.optim.channels_last,
            batch_size=settings.eval.per_gpu_batch_size,
            keep_root=settings.eval.aml,
        )

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Meshes in the place of crops; zeros for rows with a problem.

        Raises:
            CheckpointError: the network predicts numbers that are not finite; names the row.
        """
        readable = np.flatnonzero(block[PROBLEM] == "")
        spec, dtype = self._spec, np.float64 if self._is_fused else np.float32
        joints = np.zeros((len(block[ENTRY]), spec.num_joints, 3), dtype)
        vertices = np.zeros((len(block[ENTRY]), spec.num_vertices, 3), dtype)
        if len(readable):
            meshes = self._predict(np.ascontiguousarray(block[_CROPS][readable]))
            joints[readable], vertices[readable] = meshes
        wrong = np.flatnonzero(~np.isfinite(vertices).all(axis=(1, 2)))
        if len(wrong):
            raise CheckpointError(
                f"the network predicts NaN or infinity for {block[KEY][wrong[0]]}: the weights are "
                "broken, or optim.precision fp16 is too narrow for them (use bf16 or fp32)"
            )
        kept = {name: block[name] for name in (ENTRY, KEY, PROBLEM)}
        return {**kept, _JOINTS: joints, _VERTICES: vertices}


def predict_rows(
    rows: Int[np.ndarray, " rows"],
    reader: ViewReader,
    actor: dict[str, Any],
    plan: ResourcePlan,
    *,
    block_rows: int,
    start_timeout_s: float,
) -> Generator[Predicted]:
    """Predict rows in blocks, in whatever order they get done.

    Args:
        rows: numbers of rows.
        reader: makes their crops.
        actor: arguments of `PredictActor`.
        plan: its ranks are the actors.
        block_rows: most rows of a block.
        start_timeout_s: how long to wait for the actors.

    Raises:
        ResourceError: The actors do not start, or the cluster fails.
        MetroRayError: What a task or an actor raised.
    """
    num_shots = reader.load.shape[0]
    size = max(1, min(block_rows, _BLOCK_CROPS // num_shots))
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    with _ray_data(start_timeout_s):
        blocks = ray.data.read_datasource(
            PlanDatasource(store_reader(reader), chunks, epoch=0),
            num_cpus=plan.data_task_cpus,
            override_num_blocks=len(chunks),
        ).map_batches(
            PredictActor,
            batch_size=None,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=plan.train_workers),
            num_cpus=plan.cpus_per_worker,
            num_gpus=plan.gpus_per_worker,
            fn_constructor_kwargs=actor,
        )
        try:
            for block in blocks.iter_batches(batch_size=None, batch_format="numpy"):
                assert isinstance(block, dict)
                yield _predicted(block)
        except GetTimeoutError as error:
            raise ResourceError(
                f"the {plan.train_workers} actor(s) that predict did not start within "
                f"{start_timeout_s:g} s: free the cluster of other jobs, or give them more time "
                "with scaling.start_timeout_s"
            ) from error
        except RayError as error:
            raise find_metro_error(error) or error from error


def _predicted(block: dict[str, np.ndarray]) -> Predicted:
    problems = [str(problem) for problem in block[PROBLEM]]
    readable = np.flatnonzero([not problem for problem in problems])
    keys = [str(key) for key in block[KEY]]
    meshes = PredictedRows(
        rows=block[ENTRY][readable],
        keys=[keys[place] for place in readable],
        joints=block[_JOINTS][readable],
        vertices=block[_VERTICES][readable],
    )
    broken = (
        BadRow(int(row), key, problem)
        for row, key, problem in zip(block[ENTRY], keys, problems, strict=True)
        if problem
    )
    return Predicted(meshes, tuple(broken))


@contextmanager
def _ray_data(start_timeout_s: float) -> Iterator[None]:
    """Quiet, and without Ray's no-progress timeout: a block may take minutes on a CPU."""
    import logging

    context = ray.data.DataContext.get_current()
    ours = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "enable_auto_log_stats": False,
        "execution_no_progress_timeout_s": -1,
        "wait_for_min_actors_s": int(start_timeout_s),
        "raise_original_map_exception": True,
    }
    before = {name: getattr(context, name) for name in ours}
    for name, value in ours.items():
        setattr(context, name, value)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
