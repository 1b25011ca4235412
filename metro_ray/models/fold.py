"""Fold BatchNorm into the convolutions before it: the same numbers with fewer operations.

For prediction only. A network in evaluation mode normalises with fixed numbers, which scale and
shift the weights of the convolution just as well.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from metro_ray.models.backbones import IMAGE_SIZE

_TOLERANCE = 1e-3
"""Largest change of a feature, as a share of the largest feature, that rounding explains."""


def fold_batch_norm(backbone: nn.Module) -> nn.Module:
    """A copy of a backbone without the BatchNorm layers that follow a convolution.

    Pairs are told from the order in which a module's parts were made (`conv1, bn1, conv2, bn2`).
    That is a guess for backbones from elsewhere, so the copy is tried on an image: where it does
    not give the same features, the backbone is given back as it is.

    Args:
        backbone: in evaluation mode.
    """
    folded = copy.deepcopy(backbone)
    for parent, conv_name, norm_name in list(_pairs(folded)):
        conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
        setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
        setattr(parent, norm_name, nn.Identity())
    return folded if _same_features(backbone, folded) else backbone


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Parent and names of each convolution that a BatchNorm follows."""
    for parent in module.modules():
        children = list(parent.named_children())
        for (first, conv), (second, norm) in pairwise(children):
            if (
                isinstance(conv, nn.Conv2d)
                and isinstance(norm, nn.BatchNorm2d)
                and norm.num_features == conv.out_channels
                and norm.track_running_stats
            ):
                yield parent, first, second


def _same_features(one: nn.Module, other: nn.Module) -> bool:
    images = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    device = next(one.parameters()).device
    with torch.inference_mode():
        before, after = one(images.to(device)), other(images.to(device))
    return bool((before - after).abs().max() <= _TOLERANCE * before.abs().max())
