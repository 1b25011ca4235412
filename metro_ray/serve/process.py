"""What makes a process compute quickly: its threads, and the memory that it keeps."""

from __future__ import annotations

import asyncio
import ctypes
import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from metro_ray.serve.settings import ModelSettings

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of <malloc.h>."""


async def in_a_thread(work: Callable[[_Given], _Made], given: _Given) -> _Made:
    """Run off the event loop, in a thread that ends.

    A thread that has run a network keeps OpenMP threads of its own for as long as it lives. With
    more of them than CPUs, libgomp no longer lets any wait actively: each pass of the thread that
    answers takes a quarter longer (HRNet-W64, batch 1, two CPUs: 470 ms instead of 360).
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="loading")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work, given)
    finally:
        thread.shutdown(wait=False)


def keep_freed_memory() -> None:
    """Let what a pass frees be there for the next one, for the whole process.

    By default glibc gives large pieces back to the system, which clears each page again: a sixth of
    the time of a small network (HRNet-W18-small, batch 8, two CPUs: 175 ms instead of 150). Other C
    libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, -1)


def limit_threads(settings: ModelSettings) -> None:
    """Let PyTorch compute with as many threads as the replica has CPUs."""
    torch.set_num_threads(settings.cpu_threads or math.ceil(settings.cpus))
