"""What a run ran on, for its reports."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from metro_ray.version import __version__

_OTHERS = ("ray", "numpy", "opencv-python", "body-models")
_GIT_TIMEOUT_S = 10.0


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Machine, device, versions and state of the code, for people."""
    return {**describe_hardware(device), **versions(), "code": code_state()}


def versions() -> dict[str, str]:
    """Of metro_ray, torch, python, and what else changes numbers where it is installed."""
    found = {
        "metro_ray": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    for name in _OTHERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code_state() -> str:
    """The commit that the package's source is at, and whether it has changes beside; or neither."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return "installed package, no repository"
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *arguments],
                check=True,
                capture_output=True,
                text=True,
                timeout=_GIT_TIMEOUT_S,
            ).stdout.strip()
            for arguments in (
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
            )
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"repository whose state git does not tell ({type(error).__name__})"
    return f"commit {commit}{', with changes that are not in it' if changes else ''}"


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
