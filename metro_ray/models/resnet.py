"""ResNet-50 feature map with torchvision's key names.

"Deep Residual Learning for Image Recognition" (He et al., 2015), with the stride on the 3 x 3
convolution (torchvision's variant, which METRO uses); without pooling and classifier.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from metro_ray.models.blocks import bottlenecks, initialise_convolutions
from metro_ray.models.recompute import run_chain


class ResNet50(nn.Module):
    """Images to a map of 2048 channels at 1/32 of their resolution."""

    recompute = False
    """Keep the activations between blocks only; same numbers, less memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = bottlenecks(64, 64, 3)
        self.layer2 = bottlenecks(256, 128, 4, stride=2)
        self.layer3 = bottlenecks(512, 256, 6, stride=2)
        self.layer4 = bottlenecks(1024, 512, 3, stride=2)
        initialise_convolutions(self)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2048 h w"]:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        again = self.recompute and self.training
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = run_chain(layer, x, again)
        return x
