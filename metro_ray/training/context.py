"""The one seam between the training loop and whatever runs it.

The loop learns its rank, its device, how to wrap the model and where to report from a
`WorkerContext`, and knows nothing else about the world: `LocalWorker` runs it in this process,
`cluster.worker.RayWorker` as one rank of a Ray cluster.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed
from torch import Tensor, nn

from metro_ray.errors import ResourceError


class WorkerContext(Protocol):
    """One rank of a run. Methods marked *collective* must be called by every rank equally often."""

    @property
    def rank(self) -> int:
        """0 for the rank that writes files."""
        ...

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        ...

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        ...

    def wrap(self, model: nn.Module) -> nn.Module:
        """Move `model` to the device and make its gradients those of all ranks. Collective."""
        ...

    def report(self, metrics: dict[str, float], checkpoint: Path | None = None) -> None:
        """Hand numbers, and on rank 0 a checkpoint folder, to whoever started the run. Collective.

        The folder stays the loop's own: an implementation copies it before it returns.
        """
        ...

    def latest_checkpoint(self) -> Path | None:
        """Folder of the checkpoint to continue from, or None to start anew."""
        ...

    def stop_requested(self, step: int) -> bool:
        """Whether the run is to end after this step; the same answer on every rank. Collective.

        An implementation may ask only every few steps, but asks at step 0.
        """
        ...

    def all_reduce_sums(self, values: dict[str, float]) -> dict[str, float]:
        """Add up each entry over all ranks; the keys are the same on every rank. Collective."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """One picklable object of every rank, by rank, on every rank. Collective."""
        ...

    def barrier(self) -> None:
        """Wait for all ranks. Collective."""
        ...


class LocalWorker:
    """A run of one rank in this process: for debugging, tests and machines without Ray.

    Args:
        device: "auto" takes a GPU where there is one.
        checkpoint: Folder to continue from.

    Raises:
        ResourceError: A GPU is asked for and there is none.
    """

    def __init__(self, device: str | torch.device = "auto", checkpoint: Path | None = None) -> None:
        self._device = choose_device(device)
        self._checkpoint = checkpoint
        self.reports: list[tuple[dict[str, float], Path | None]] = []
        """What was reported, in order."""
        self.stop = False
        """Set it (from a signal handler, another thread) to end the run after its step."""

    @property
    def rank(self) -> int:
        return 0

    @property
    def world_size(self) -> int:
        return 1

    @property
    def device(self) -> torch.device:
        return self._device

    def wrap(self, model: nn.Module) -> nn.Module:
        return model.to(self._device)

    def report(self, metrics: dict[str, float], checkpoint: Path | None = None) -> None:
        self.reports.append((dict(metrics), checkpoint))

    def latest_checkpoint(self) -> Path | None:
        return self._checkpoint

    def stop_requested(self, step: int) -> bool:
        del step
        return self.stop

    def all_reduce_sums(self, values: dict[str, float]) -> dict[str, float]:
        return dict(values)

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def barrier(self) -> None:
        return None


def choose_device(device: str | torch.device) -> torch.device:
    """Turn "auto", "cuda", "cpu" or a device into a device that exists.

    Raises:
        ResourceError: A GPU is asked for and PyTorch sees none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ResourceError(
            "run.device is cuda, but PyTorch sees no GPU here; install a CUDA build of torch and "
            "check nvidia-smi, or use --run.device cpu (or auto)"
        )
    return chosen


def broadcast_buffers(model: nn.Module) -> None:
    """Give every rank the buffers of rank 0; does nothing where there is one rank. Collective.

    BatchNorm statistics follow each rank's own batches while training, so ranks that evaluate
    with their own would measure slightly different networks.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    if torch.distributed.get_world_size() < 2:
        return
    kinds: defaultdict[torch.dtype, list[Tensor]] = defaultdict(list)
    for buffer in model.buffers():
        kinds[buffer.dtype].append(buffer)
    with torch.no_grad():
        for buffers in kinds.values():  # one message a kind instead of thousands
            joined = torch.cat([buffer.reshape(-1) for buffer in buffers])
            torch.distributed.broadcast(joined, src=0)
            parts = joined.split([buffer.numel() for buffer in buffers])
            for buffer, part in zip(buffers, parts, strict=True):
                buffer.copy_(part.view_as(buffer))
