"""Activations that are computed again in the backward pass instead of being kept.

"Training Deep Nets with Sublinear Memory Cost" (Chen et al., 2016). The same numbers come out:
dropout draws again what it drew, and BatchNorm's running statistics take each batch once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module, *inputs: Any) -> Any:
    """`module(*inputs)`, of which only the inputs are kept for the backward pass."""
    if not torch.is_grad_enabled():
        return module(*inputs)
    contexts = partial(_contexts, module)
    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)


def run_chain(chain: nn.Module, x: Any, again: bool) -> Any:
    """The children of a Sequential one after the other, each by `recompute` if `again` says so."""
    if not again:
        return chain(x)
    for child in chain.children():
        x = recompute(child, x)
    return x


def _contexts(
    module: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _without_statistics(module)


@contextmanager
def _without_statistics(module: nn.Module) -> Iterator[None]:
    """BatchNorm normalises with its batch but does not add it to its running statistics again."""
    kind = nn.modules.batchnorm._BatchNorm
    norms = [child for child in module.modules() if isinstance(child, kind) and child.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
