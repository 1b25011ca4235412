"""What a run ran on, for its reports."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from metro_ray.version import __version__


def versions() -> dict[str, str]:
    """Of metro_ray, torch and python."""
    return {
        "metro_ray": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """Machine and device of this rank."""
    described: dict[str, Any] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": device.type,
    }
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described
