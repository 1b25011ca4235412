"""Residual blocks shared by HRNet and ResNet, with the key names of the published weights."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3 x 3 convolution with padding and without bias."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """1 x 1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; the unit of HRNet's branches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + x, inplace=True)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions and a shortcut; widens to four times `channels`.

    The stride sits on the 3 x 3 convolution, as in the published HRNet and torchvision weights.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = self.expansion * channels
        self.conv1 = conv1x1(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H2 W2"]:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(out + shortcut, inplace=True)


def bottlenecks(in_channels: int, channels: int, count: int, stride: int = 1) -> nn.Sequential:
    """A chain of bottlenecks; only the first one strides and widens."""
    blocks = [Bottleneck(in_channels, channels, stride)]
    out_channels = Bottleneck.expansion * channels
    blocks += [Bottleneck(out_channels, channels) for _ in range(count - 1)]
    return nn.Sequential(*blocks)


def initialise_convolutions(module: nn.Module) -> None:
    """Kaiming normal (fan out, ReLU) weights; BatchNorm 1 and 0 and conv biases are torch's own."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")


def start_from_shortcuts(module: nn.Module) -> int:
    """Makes every residual block pass on its shortcut alone: its last BatchNorm starts at weight 0.

    Returns the number of blocks. "Accurate, Large Minibatch SGD" (Goyal et al., 2017), section 5.1.
    """
    blocks = [child for child in module.modules() if isinstance(child, BasicBlock | Bottleneck)]
    for block in blocks:
        nn.init.zeros_((block.bn2 if isinstance(block, BasicBlock) else block.bn3).weight)
    return len(blocks)
