"""The gallery's HTML: layout, style and the table of metrics. No external link, light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from metro_ray.inference.mesh_viewer import VIEWER_JS
from metro_ray.inference.page import document

_METRIC_TITLES = {
    "mpjpe_mm": ("MPJPE", "mean joint error after root alignment"),
    "pa_mpjpe_mm": ("PA-MPJPE", "mean joint error after rotation, scale and translation"),
    "mpve_mm": ("MPVE", "mean vertex error, root-relative"),
    "pa_mpve_mm": ("PA-MPVE", "mean vertex error after rotation, scale and translation"),
}

_STYLE = """
.summary { display: flex; flex-wrap: wrap; gap: 1.4rem; align-items: flex-start;
  margin: 1.2rem 0 1.6rem; }
td { text-align: right; }
article { margin-bottom: 1.1rem; }
article header { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; align-items: baseline; }
.errors { margin: 0; color: var(--quiet); font-variant-numeric: tabular-nums; }
.errors b { font-weight: 500; color: var(--text); }
.panels { display: grid; grid-template-columns: repeat(5, 1fr); gap: .6rem; margin-top: .6rem; }
@media (max-width: 900px) { .panels { grid-template-columns: repeat(2, 1fr); } }
figure img, canvas.mesh { width: 100%; aspect-ratio: 1; border-radius: 8px; }
canvas.mesh { display: block; height: auto; background: linear-gradient(#f2f2f5, #d6d6da);
  cursor: grab; touch-action: none; }
canvas.mesh:active { cursor: grabbing; }
canvas.mesh:focus-visible { outline: 2px solid var(--accent); }
label { float: right; } footer { font-size: .85rem; padding-top: .2rem; }
footer a { margin-right: .7rem; }
"""


def page(*, title: str, notes: Sequence[str], table: str, cards: str, data: str) -> str:
    """The whole document; `title` and `notes` are plain text, the rest is HTML."""
    body = (
        f'<section class="summary">{table}</section>\n<main>{cards}</main>\n'
        f"{data}\n<script>{VIEWER_JS}</script>"
    )
    return document(title=title, notes=notes, style=_STYLE, body=body)


def metrics_table(metrics: Mapping[str, float], split: str = "val") -> str:
    """Errors of the model, beside those of the mean mesh where given; "" without metrics."""
    has_baseline = any(name.startswith("baseline/") for name in metrics)
    rows = []
    for name, (short, meaning) in _METRIC_TITLES.items():
        value = metrics.get(f"{split}/{name}")
        if value is None:
            continue
        cells = [_millimetres(value)]
        if has_baseline:
            reference = metrics.get(f"baseline/{name}", math.nan)
            cells += [_millimetres(reference), _improvement(value, reference)]
        joined = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f"<tr><th>{short}<small>{meaning}</small></th>{joined}</tr>")
    if not rows:
        return ""
    titles = ["", "model", *(["mean mesh", "better by"] if has_baseline else [])]
    head = "".join(f"<th>{text}</th>" for text in titles)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _millimetres(value: float) -> str:
    return "&ndash;" if math.isnan(value) else f"{value:.1f} mm"


def _improvement(value: float, reference: float) -> str:
    if math.isnan(value) or math.isnan(reference) or reference == 0:
        return "&ndash;"
    return f"{100 * (1 - value / reference):.1f} %"
