"""From uint8 crops to the network's input, on the device: colour gain and normalisation."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize_images(
    image: Shaped[Tensor, "B 3 H W"], pixel_gain: Float[Tensor, "B 3"] | None = None
) -> Float[Tensor, "B 3 H W"]:
    """Multiply channels, clip to [0, 255], divide by 255, then ImageNet's mean and deviation, in
    float32.

    Args:
        image: RGB in [0, 255], uint8 or float, on any device.
        pixel_gain: factor of each channel; None leaves colours as they are.

    Returns:
        About [-2.1, 2.6]; black padding becomes (-2.118, -2.036, -1.804) whatever the gain.
    """
    picture = image.to(torch.float32)
    if pixel_gain is not None:
        picture = (picture * pixel_gain[:, :, None, None]).clamp(0.0, 255.0)
    mean = picture.new_tensor(IMAGENET_MEAN)[:, None, None]
    std = picture.new_tensor(IMAGENET_STD)[:, None, None]
    return (picture / 255.0 - mean) / std
