"""RayWorker: one rank of a run on a Ray cluster, as the training loop sees it.

Checkpoints stay in the run's folder, where the loop writes them atomically. What goes to Ray Train
is a pointer of a few bytes: it makes the checkpoint part of Ray's record, so that a rank that is
started again after a failure finds it, and no weights are copied.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from metro_ray.cluster.machine import physical_cores
from metro_ray.errors import CheckpointError

_POINTER = "checkpoint.json"


class RayWorker:
    """Implements `training.context.WorkerContext`. Make it inside a Ray Train worker.

    It also sets PyTorch's number of threads, which Ray leaves at one: the ranks of a machine share
    its cores.

    Args:
        use_gpu: Whether this rank has a GPU.
    """

    def __init__(self, *, use_gpu: bool) -> None:
        context = ray.train.get_context()
        self._rank = context.get_world_rank()
        self._world_size = context.get_world_size()
        self._device = ray.train.torch.get_device() if use_gpu else torch.device("cpu")
        torch.set_num_threads(max(1, physical_cores() // context.get_local_world_size()))
        logging.getLogger().setLevel(logging.WARNING)  # Ray Train would print every report

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def world_size(self) -> int:
        return self._world_size

    @property
    def device(self) -> torch.device:
        return self._device

    def wrap(self, model: nn.Module) -> nn.Module:
        """Move to the device; average gradients over the ranks where there are several.

        Buffers are not broadcast at every step: BatchNorm does not use its statistics while
        training, and the loop gives every rank those of rank 0 before it validates.
        """
        model = model.to(self._device)
        if self._world_size == 1:
            return model
        on_gpu = self._device.type == "cuda"
        with warnings.catch_warnings():
            # PyTorch 2.13 has another name for this argument, which older ones do not know.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return DistributedDataParallel(
                model,
                device_ids=[self._device] if on_gpu else None,
                gradient_as_bucket_view=True,
                broadcast_buffers=False,
            )

    def report(self, metrics: dict[str, float], checkpoint: Path | None = None) -> None:
        if checkpoint is None:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            pointer = Path(folder) / _POINTER
            pointer.write_text(json.dumps({"folder": str(checkpoint.absolute())}))
            ray.train.report(
                metrics,
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_dir_name=checkpoint.name,
            )

    def latest_checkpoint(self) -> Path | None:
        """The last checkpoint that this run reported before it was started again.

        Raises:
            CheckpointError: It cannot be seen from this node.
        """
        reported = ray.train.get_checkpoint()
        if reported is None:
            return None
        with reported.as_directory() as folder:
            target = Path(json.loads((Path(folder) / _POINTER).read_text())["folder"])
        if target.is_dir():
            return target
        newest = target.parent / "last"  # a newer one was saved, but not reported any more
        if newest.is_dir():
            return newest
        raise CheckpointError(
            f"the run is to go on from {target}, which this node does not see; "
            "put run.output_dir on storage that all nodes share"
        )

    def all_reduce_sums(self, values: dict[str, float]) -> dict[str, float]:
        names = sorted(values)
        sums = torch.tensor([values[name] for name in names], dtype=torch.float64)
        if self._world_size > 1:
            sums = sums.to(self._device)
            dist.all_reduce(sums)
        return dict(zip(names, sums.tolist(), strict=True))

    def barrier(self) -> None:
        if self._world_size > 1:
            dist.barrier()

    def gather(self, value: Any) -> list[Any]:
        """One picklable object of every rank, by rank, on every rank. Collective."""
        gathered: list[Any] = [value] * self._world_size
        if self._world_size > 1:
            dist.all_gather_object(gathered, value)
        return gathered
