"""Rows to look at on a page: pictures in groups, vertices coloured by their error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float32, UInt8

from metro_ray.inference.page import encode_jpeg, figure
from metro_ray.inference.report_parts import section

_GROUPS = {
    "worst": "Worst rows",
    "typical": "Typical rows",
    "best": "Best rows",
    "improved": "Rows that improved most",
    "worsened": "Rows that worsened most",
}


_SHOWN_SHARE = 95
"""Percentile of the shown vertices' errors that has the brightest colour."""
_STEP_MM = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorPicture:
    """A row of the data set to look at."""

    group: str
    """`worst`, `typical` or `best`; in a comparison `improved` or `worsened`."""
    key: str
    errors_mm: Mapping[str, float]
    """By short name, as the evaluation measured them."""
    panels: Mapping[str, UInt8[np.ndarray, "S S 3"]]
    """RGB pictures by caption."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """Rows to look at, and what the brightest error colour means."""

    items: Sequence[ErrorPicture]
    most_mm: float
    ranked_by: str


def color_limit_mm(errors_mm: Sequence[Float32[np.ndarray, " V"]]) -> float:
    """What the brightest colour means for meshes that are shown together, in steps of 10 mm."""
    if not errors_mm:
        return _STEP_MM
    most = float(np.percentile(np.concatenate(list(errors_mm)), _SHOWN_SHARE))
    return _STEP_MM * max(1, math.ceil(most / _STEP_MM))


def rows_section(pictures: Pictures) -> str:
    parts = [
        f'<p class="scale">Error of each vertex: 0 mm <i role="img" aria-label="colour scale from '
        f'dark blue for 0 to yellow"></i> {pictures.most_mm:.0f} mm and more. Rows are ranked by '
        f"{escape(pictures.ranked_by)}.</p>"
    ]
    for group, title in _GROUPS.items():
        cards = "".join(_card(item) for item in pictures.items if item.group == group)
        if cards:
            parts.append(f'<h3>{title}</h3><div class="rows">{cards}</div>')
    return section("Rows to look at", "".join(parts)) if len(parts) > 1 else ""


def _card(item: ErrorPicture) -> str:
    errors = ", ".join(
        f"{name} {value:.1f} mm" for name, value in item.errors_mm.items() if np.isfinite(value)
    )
    panels = "".join(
        figure(encode_jpeg(panel), panel.shape[:2], f"{item.key}: {caption}. {errors}", caption)
        for caption, panel in item.panels.items()
    )
    return (
        f'<article><h3>{escape(item.key)}</h3><p class="notes">{escape(errors)}</p>'
        f'<div class="panels">{panels}</div></article>'
    )
