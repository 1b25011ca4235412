"""HRNet with the classification head's 2048-channel feature map.

"Deep High-Resolution Representation Learning for Visual Recognition" (Wang et al., 2019), section 3
and appendix A (classification). Key names are those of the published ImageNet weights; the
classifier itself (2048 -> 1000) is left out because METRO never runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from metro_ray.models.blocks import (
    BasicBlock,
    Bottleneck,
    bottlenecks,
    conv1x1,
    conv3x3,
    initialise_convolutions,
)
from metro_ray.models.recompute import run_chain

_STEM_CHANNELS = 64
_HEAD_CHANNELS = (32, 64, 128, 256)
FEATURE_CHANNELS = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class HRNetSpec:
    """What differs between the published variants (`cls_hrnet_*.yaml` of the HRNet repository)."""

    width: int
    """Channels of the highest resolution; branch i has `width * 2**i`."""
    modules: tuple[int, int, int] = (1, 4, 3)
    """Exchange modules of stages 2, 3 and 4."""
    blocks: int = 4
    """Residual blocks of each branch in each module."""
    first_blocks: int = 4
    """Bottlenecks of stage 1."""
    first_channels: int = 64
    """Inner channels of these bottlenecks."""


HRNETS: dict[str, HRNetSpec] = {
    "hrnet-w18-small": HRNetSpec(
        width=16, modules=(1, 1, 1), blocks=2, first_blocks=1, first_channels=32
    ),
    "hrnet-w18-small-v2": HRNetSpec(width=18, modules=(1, 3, 2), blocks=2, first_blocks=2),
    "hrnet-w18": HRNetSpec(width=18),
    "hrnet-w32": HRNetSpec(width=32),
    "hrnet-w40": HRNetSpec(width=40),
    "hrnet-w48": HRNetSpec(width=48),
    "hrnet-w64": HRNetSpec(width=64),
}


class ExchangeModule(nn.Module):
    """Parallel branches of residual blocks, then every resolution is added to every other."""

    def __init__(self, channels: Sequence[int], num_blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(num_blocks))) for width in channels
        )
        indices = range(len(channels))
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse_layer(channels, source, target) for source in indices)
            for target in indices
        )

    def forward(self, maps: list[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B _ _ _"]]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for layers in self.fuse_layers:
            total = layers[0](maps[0])  # pyright: ignore[reportIndexIssue]
            for layer, x in zip(layers[1:], maps[1:], strict=True):  # pyright: ignore[reportIndexIssue]
                total = total + layer(x)
            fused.append(F.relu(total, inplace=True))
        return fused


def _fuse_layer(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """Brings branch `source` to the resolution and width of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            conv1x1(channels[source], channels[target]),
            nn.BatchNorm2d(channels[target]),
            nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"),
        )
    halvings = []
    for step in range(target - source):
        last = step == target - source - 1
        width = channels[target] if last else channels[source]
        layers = [conv3x3(channels[source], width, stride=2), nn.BatchNorm2d(width)]
        halvings.append(nn.Sequential(*layers if last else (*layers, nn.ReLU(inplace=True))))
    return nn.Sequential(*halvings)


def _transition(previous: Sequence[int], channels: Sequence[int]) -> nn.ModuleList:
    """Layers into the branches of the next stage; the last one halves the resolution once more."""
    layers: list[nn.Module] = []
    for index, width in enumerate(channels):
        source = previous[min(index, len(previous) - 1)]
        if index == len(previous):
            new = nn.Sequential(
                conv3x3(source, width, stride=2), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
            )
            layers.append(nn.Sequential(new))
        elif source == width:
            layers.append(nn.Identity())
        else:
            layers.append(
                nn.Sequential(conv3x3(source, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
            )
    return nn.ModuleList(layers)


def _enter(
    transition: nn.ModuleList, maps: list[Float[Tensor, "B _ _ _"]]
) -> list[Float[Tensor, "B _ _ _"]]:
    """Maps of the next stage; a new branch starts from the lowest resolution there is."""
    return [layer(maps[min(i, len(maps) - 1)]) for i, layer in enumerate(transition)]


class HRNet(nn.Module):
    """Images to a map of 2048 channels at 1/32 of their resolution."""

    recompute = False
    """Keep the activations between blocks and exchange modules only; same numbers, less memory."""

    def __init__(self, spec: HRNetSpec) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, _STEM_CHANNELS, stride=2)
        self.bn1 = nn.BatchNorm2d(_STEM_CHANNELS)
        self.conv2 = conv3x3(_STEM_CHANNELS, _STEM_CHANNELS, stride=2)
        self.bn2 = nn.BatchNorm2d(_STEM_CHANNELS)
        self.layer1 = bottlenecks(_STEM_CHANNELS, spec.first_channels, spec.first_blocks)

        widths = [spec.width * 2**i for i in range(4)]
        stages = [
            nn.Sequential(*(ExchangeModule(widths[: i + 2], spec.blocks) for _ in range(count)))
            for i, count in enumerate(spec.modules)
        ]
        self.transition1 = _transition([Bottleneck.expansion * spec.first_channels], widths[:2])
        self.stage2 = stages[0]
        self.transition2 = _transition(widths[:2], widths[:3])
        self.stage3 = stages[1]
        self.transition3 = _transition(widths[:3], widths)
        self.stage4 = stages[2]

        heads = [Bottleneck.expansion * channels for channels in _HEAD_CHANNELS]
        self.incre_modules = nn.ModuleList(
            bottlenecks(width, channels, 1)
            for width, channels in zip(widths, _HEAD_CHANNELS, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(
            _biased_conv(heads[i], heads[i + 1], kernel=3, stride=2) for i in range(3)
        )
        self.final_layer = _biased_conv(heads[-1], FEATURE_CHANNELS, kernel=1, stride=1)
        initialise_convolutions(self)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2048 h w"]:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        again = self.recompute and self.training
        maps = [run_chain(self.layer1, x, again)]
        maps = run_chain(self.stage2, _enter(self.transition1, maps), again)
        maps = run_chain(self.stage3, _enter(self.transition2, maps), again)
        maps = run_chain(self.stage4, _enter(self.transition3, maps), again)

        features = self.incre_modules[0](maps[0])
        for downsample, widen, x in zip(
            self.downsamp_modules, self.incre_modules[1:], maps[1:], strict=True
        ):
            features = widen(x) + downsample(features)
        return self.final_layer(features)


def _biased_conv(in_channels: int, out_channels: int, *, kernel: int, stride: int) -> nn.Sequential:
    """Convolution with a bias (which BatchNorm cancels, but published weights carry), BN, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
