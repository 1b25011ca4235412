"""RayWorker: one rank of a run on a Ray cluster, as the training loop sees it.

Checkpoints stay in the run's folder, where the loop writes them atomically. Ray Train gets a
pointer of a few bytes with each, because it keeps the numbers of a report only beside a checkpoint;
no weights are copied. A rank that is started again after a failure looks into the run's folder
itself: what is there was finished, even where the report of it was lost with the process.
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

from metro_ray.cluster.gauges import RunGauges
from metro_ray.cluster.machine import physical_cores
from metro_ray.cluster.run_folder import last_checkpoint, last_checkpoint_stamp
from metro_ray.errors import CheckpointError

_POINTER = "checkpoint.json"
_STOP_EVERY = 5


class RayWorker:
    """Implements `training.context.WorkerContext`. Make it inside a Ray Train worker.

    It also sets PyTorch's number of threads, which Ray leaves at one: the ranks of a machine share
    its cores.

    Args:
        run_dir: The run's folder.
        stale: `last_checkpoint_stamp` of that folder before the run began, if the run does not
            go on from there.
        stop_file: The run ends after its step when this file is there.
        use_gpu: Whether this rank has a GPU.
        runs_per_machine: Runs that share the machine's cores with this one, itself included.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        stale: str | None,
        stop_file: Path,
        use_gpu: bool,
        runs_per_machine: int = 1,
    ) -> None:
        self._run_dir, self._stale, self._stop_file = run_dir, stale, stop_file
        context = ray.train.get_context()
        self._rank = context.get_world_rank()
        self._world_size = context.get_world_size()
        self._device = ray.train.torch.get_device() if use_gpu else torch.device("cpu")
        ranks_here = context.get_local_world_size() * runs_per_machine
        torch.set_num_threads(max(1, physical_cores() // ranks_here))
        logging.getLogger().setLevel(logging.WARNING)  # Ray Train would print every report
        self._gauges = RunGauges(run_dir.name) if self._rank == 0 else None

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
        if self._gauges is not None:
            self._gauges.set(metrics)
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
        """The last checkpoint that this run wrote before it was started again. Collective.

        Raises:
            CheckpointError: Rank 0 has one, but this node does not see it.
        """
        written = last_checkpoint_stamp(self._run_dir) not in (None, self._stale)
        last = last_checkpoint(self._run_dir) if written else None
        [chosen, *_] = self.gather(last)
        if chosen is not None and not chosen.is_dir():
            raise CheckpointError(
                f"the run is to go on from {chosen}, which the node of rank {self._rank} does not "
                "see; put run.output_dir on storage that all nodes share"
            )
        return chosen

    def stop_requested(self, step: int) -> bool:
        """Ask rank 0; several ranks only every few steps, because each answer is a message."""
        if self._world_size == 1:
            return self._stop_file.exists()
        if step % _STOP_EVERY:
            return False
        found = float(self._rank == 0 and self._stop_file.exists())
        return self.all_reduce_sums({"stop": found})["stop"] > 0

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
