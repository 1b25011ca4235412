"""What this machine offers: CPUs within the limits of a container, memory, GPUs."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
_SIBLINGS = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
_SHARED_MEMORY = Path("/dev/shm")
_MIB = 1 << 20


def usable_cpus() -> int:
    """CPUs that this process may use: its affinity, bounded by the container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = count or 1
    quota, _, period = _read(_CGROUP_CPU).partition(" ")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        count = min(count, math.ceil(int(quota) / int(period)))
    return max(1, count)


def physical_cores() -> int:
    """Cores behind `usable_cpus`: two hardware threads of a core compute as fast as one."""
    return max(1, usable_cpus() // _threads_per_core())


def num_gpus() -> int:
    """GPUs that PyTorch can use here."""
    import torch

    return torch.cuda.device_count()


def object_store_bytes() -> int:
    """A modest size for the object store of a local cluster: it holds crops, not data sets.

    A tenth of the memory, at most 2 GiB, and no more than /dev/shm has free (containers often have
    64 MiB of it, with which Ray would fall back to the disk), but at least Ray's minimum.
    """
    size = min(memory_bytes() // 10, 2048 * _MIB)
    if _SHARED_MEMORY.is_dir():
        size = min(size, int(0.8 * shutil.disk_usage(_SHARED_MEMORY).free))
    return max(size, 128 * _MIB)


def memory_bytes() -> int:
    """Of this machine, within the limits of a container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read(_CGROUP_MEMORY)
    return min(total, int(limit)) if limit.isdigit() else total


def _threads_per_core() -> int:
    """Length of a list such as "0,48" or "0-1"; 1 where the system does not tell."""
    count = 0
    for part in _read(_SIBLINGS).split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            count += int(last) - int(first) + 1 if last.isdigit() else 1
    return max(1, count)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
