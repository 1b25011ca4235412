"""What this machine and its Python have, for `metro-ray doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("torch", "ray", "anny", "body-models", "numpy", "opencv-python", "pydantic", "trimesh")
_GIB = 1 << 30


def environment() -> dict[str, str]:
    """Versions and sizes by name, as they are read out."""
    facts = {"python": platform.python_version(), "platform": platform.platform()}
    facts |= {name: _version(name) for name in _PACKAGES}
    facts["cuda"] = _cuda()
    facts["cpu cores"] = str(_cores())
    facts["memory"] = f"{_memory_bytes() / _GIB:.1f} GiB"
    facts["free disk here"] = f"{shutil.disk_usage('.').free / _GIB:.1f} GiB"
    return facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"no GPU (torch built for CUDA {torch.version.cuda or 'none'})"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{len(names)} GPU: {', '.join(names)} (CUDA {torch.version.cuda})"


def _cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
