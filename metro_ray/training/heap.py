"""Memory of a process that trains on the CPU: what a step frees, the next step takes again."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Of glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4

_NEVER = -1
_ARENA_BYTES = 2**28
"""More than a part of a thread's arena (64 MiB), which is given back when empty otherwise."""
_DEFAULTS = {_M_MMAP_MAX: 65536, _M_TRIM_THRESHOLD: 2**26, _M_TOP_PAD: 2**17}
"""glibc's own, the trimming as it is once a process has freed something large."""


@contextmanager
def keeping_freed_memory(device: torch.device) -> Iterator[None]:
    """Keep what is freed in the process, and give it back at the end; for CPUs under glibc only.

    Else glibc hands activations and gradients back to the kernel in every step and asks for them
    again, page by page: half a gigabyte or more a step of METRO, at up to 6 us a page on virtual
    machines. In return the process stays at its peak between steps, and what does not fit into what
    was freed makes that a little higher: 1 % for HRNet-W64, 12 % for the network of `make demo`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if device.type == "cpu" else None
    if mallopt is None:
        yield
        return
    for name, value in (
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, _NEVER),
        (_M_TOP_PAD, _ARENA_BYTES),
    ):
        mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _DEFAULTS.items():
            mallopt(name, value)
        ctypes.CDLL(None).malloc_trim(0)
