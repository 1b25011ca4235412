"""The section `views`: under which views test-time augmentation looks at an image."""

from __future__ import annotations

import math
from dataclasses import dataclass

from metro_ray.config.checks import Strict, require

METRO_SCALES = (0.7, 0.8, 0.9, 1.0, 1.1)
METRO_ROTATIONS_DEG = (0.0, *(sign * 10.0 * step for step in range(1, 10) for sign in (1, -1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewsConfig(Strict):
    """Views of test-time augmentation (--multiscale_inference); METRO's 95 by default."""

    scales: tuple[float, ...] = METRO_SCALES
    """Factors on the size of the box."""
    rotations_deg: tuple[float, ...] = METRO_ROTATIONS_DEG
    """In-plane rotations, degrees; every scale is combined with every rotation."""
    flip: bool = False
    """Look at each view mirrored too (bodies whose mesh is symmetric)."""

    def __post_init__(self) -> None:
        for name, smallest in (("scales", 0.0), ("rotations_deg", -math.inf)):
            values = getattr(self, name)
            fits = all(smallest < value < math.inf for value in values)
            fits = fits and len(set(values)) == len(values) > 0
            rule = "one or more different numbers" + (" > 0" if smallest == 0 else "")
            require(fits, f"views.{name}", rule, values)
