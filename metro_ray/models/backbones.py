"""Backbones by name. To add one: a builder and a line in `BACKBONES`.

Contract: `module(images (B, 3, 224, 224)) -> (B, 2048, 7, 7)`, every parameter used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from metro_ray.errors import ConfigError
from metro_ray.models.hrnet import HRNETS, HRNet
from metro_ray.models.resnet import ResNet50

IMAGE_SIZE = 224
FEATURE_DIM = 2048
GRID_SIZE = 7
_TIMM = "timm/"

BACKBONES: dict[str, Callable[[], nn.Module]] = {
    **{name: partial(HRNet, spec) for name, spec in HRNETS.items()},
    "hrnet": partial(HRNet, HRNETS["hrnet-w40"]),  # METRO's short name
    "resnet50": ResNet50,
}


def build_backbone(name: str) -> nn.Module:
    """A backbone with random weights.

    Raises:
        ConfigError: the name is unknown, timm is not installed or does not know the name, or the
            timm model does not give a map of 2048 x 7 x 7.
    """
    if name.startswith(_TIMM):
        return _build_timm(name.removeprefix(_TIMM))
    if name not in BACKBONES:
        raise ConfigError(
            f"unknown backbone {name!r}; choose one of: {', '.join(sorted(BACKBONES))}, "
            f"or {_TIMM}NAME where timm is installed"
        )
    return BACKBONES[name]()


def _build_timm(name: str) -> nn.Module:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise ConfigError(
            f"backbone {_TIMM}{name} needs the package timm, which is not installed: "
            "run `pip install timm` (it brings torchvision), or choose one of: "
            + ", ".join(sorted(BACKBONES))
        ) from error
    try:
        module = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
    except RuntimeError as error:
        raise ConfigError(f"timm {timm.__version__} cannot build {name!r}: {error}") from error
    shape = _feature_shape(module)
    needed = (1, FEATURE_DIM, GRID_SIZE, GRID_SIZE)
    if shape != needed:
        raise ConfigError(
            f"backbone {_TIMM}{name} gives features of shape {shape} for one image of "
            f"{IMAGE_SIZE} x {IMAGE_SIZE}; METRO needs {needed}. "
            "Choose another model, such as timm/resnet50 or timm/hrnet_w18."
        )
    return module


def _feature_shape(module: nn.Module) -> tuple[int, ...]:
    """Shape of what the module returns for one image, without touching its statistics."""
    was_training = module.training
    module.eval()
    with torch.inference_mode():
        features = module(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE))
    module.train(was_training)
    return tuple(features.shape)
