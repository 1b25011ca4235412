"""Switches of the arithmetic that belong to the whole process: TF32, determinism, the compiler."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from metro_ray.errors import ResourceError

if TYPE_CHECKING:
    from metro_ray.config.schema import OptimConfig

_COMPILERS = ("g++", "clang++")
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def arithmetic(optim: OptimConfig) -> Iterator[None]:
    """Set TF32 and determinism as the settings say, and put back what was set before."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # pyright: ignore
    before = (matmul.fp32_precision, conv.fp32_precision)
    strict = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    matmul.fp32_precision = conv.fp32_precision = "tf32" if optim.tf32 else "ieee"
    if optim.deterministic:
        os.environ.setdefault(_CUBLAS, ":4096:8")  # read when the GPU's library starts
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        matmul.fp32_precision, conv.fp32_precision = before
        torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])


def compiled(
    model: nn.Module,
    mode: Literal["none", "default", "max-autotune-no-cudagraphs"],
    device: torch.device,
) -> nn.Module:
    """`model`, or its compiled twin, which shares its weights; compiled when it first runs.

    Raises:
        ResourceError: There is nothing to compile with.
    """
    if mode == "none":
        return model
    compiler = os.environ.get("CXX")
    names = _COMPILERS if compiler is None else (compiler,)
    if not any(shutil.which(name) for name in names):
        raise ResourceError(
            f"optim.compile {mode} needs a C++ compiler on every machine that trains, and this one "
            f"has no {' or '.join(names)}: install one (apt-get install g++), point CXX to it, or "
            "use --optim.compile none"
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ResourceError(
            f"optim.compile {mode} needs the package triton for GPUs: install a CUDA build of "
            "torch, which brings it, or use --optim.compile none"
        )
    return torch.compile(model, mode=mode)  # pyright: ignore[reportReturnType]
