"""The page of an evaluation: figures beside published ones, curves, joints, rows to look at.

Everything but the pictures is computed from a file of per-sample results, so a page can be made
again from a run's folder at any time. Self-contained; no network, no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from metro_ray.evaluation.figures import TITLES, shown
from metro_ray.evaluation.per_sample import PerSample
from metro_ray.evaluation.published import published_rows
from metro_ray.inference.charts import bars, curves, spread
from metro_ray.inference.page import document, encode_jpeg, figure, table
from metro_ray.inference.report_tta import augmentation_section
from metro_ray.training.files import write_bytes

STYLE = """
main > section { margin-top: 1.8rem; } section > h2 { font-size: 1.25rem; margin-bottom: .5rem; }
h3 { margin: 0 0 .5rem; font-size: 1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .8rem; }
.tiles article { padding: .7rem .9rem; } .tiles b { display: block; font-size: 1.5rem;
  font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles small { color: var(--quiet); display: block; }
.charts { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); }
.rows { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 430px), 1fr)); }
.rows .panels { display: grid; grid-template-columns: repeat(4, 1fr); gap: .5rem;
  margin-top: .5rem; }
.rows img { width: 100%; aspect-ratio: 1; border-radius: 8px; }
.rows h3 { overflow-wrap: anywhere; margin: 0; font-weight: 600; font-size: .95rem; }
@media (max-width: 560px) { .rows .panels { grid-template-columns: repeat(2, 1fr); }
  body { padding: 1rem; } }
.scale { display: flex; align-items: center; gap: .6rem; color: var(--quiet);
  margin: .2rem 0 .8rem; flex-wrap: wrap; }
.scale i { width: 180px; height: 12px; border-radius: 6px; background: linear-gradient(90deg,
  #440154, #3b528b, #21918c, #5ec962, #fde725); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 560px) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
.notice { border-left: 4px solid var(--second); padding: .5rem .9rem; background: var(--card); }
details { margin-top: .6rem; }
"""
_GROUPS = {"worst": "Worst rows", "typical": "Typical rows", "best": "Best rows"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorPicture:
    """A row of the data set to look at."""

    group: str
    """`worst`, `typical` or `best`."""
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


def write_report(
    path: Path,
    sample: PerSample,
    *,
    title: str,
    baseline: Mapping[str, float] | None = None,
    pictures: Pictures | None = None,
    augmented: PerSample | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the page of an evaluation.

    Args:
        path: of the page.
        sample: results of the evaluation.
        title: heading, plain text.
        baseline: the same figures of the mean mesh, by the names of `TITLES`.
        pictures: rows to look at.
        augmented: results of the same rows with test-time augmentation, to show beside.
        notes: lines of plain text below the heading.

    Returns:
        `path`.

    Raises:
        DataError: `augmented` is of other rows.
    """
    sections = [
        _tiles(sample),
        _figures(sample, baseline or {}),
        _protocol(sample),
        _published(sample),
        _charts(sample),
        "" if augmented is None else augmentation_section(sample, augmented),
        "" if pictures is None else rows_section(pictures),
    ]
    body = f"<main>{''.join(sections)}</main>"
    text = document(title=title, notes=notes, style=STYLE, body=body)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode())
    return path


def section(title: str, content: str) -> str:
    """A part of the page with its heading; "" without content."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _tiles(sample: PerSample) -> str:
    means = sample.figures.means
    tiles = "".join(
        f"<article><small>{escape(TITLES[name][0])}</small><b>{escape(shown(name, means[name]))}"
        f"</b><small>{escape(TITLES[name][2])}</small></article>"
        for name in ("pa_mpjpe_mm", "mpjpe_mm", "mpve_mm", "pa_mpve_mm", "pck", "auc", "accel_mm")
        if np.isfinite(means[name])
    )
    return f'<section class="tiles" aria-label="Figures">{tiles}</section>'


def _figures(sample: PerSample, baseline: Mapping[str, float]) -> str:
    figures = sample.figures
    head = ["figure", "meaning", "this evaluation"]
    known = {name for name in TITLES if np.isfinite(baseline.get(name, np.nan))}
    head += ["mean mesh"] if known else []
    lines = []
    for name, (short, unit, meaning) in TITLES.items():
        at = f"@{figures.rule.name}" if name.endswith(("pck", "auc")) else ""
        line = [f"{short}{at}", meaning, shown(name, figures.means[name])]
        lines.append(line + ([shown(name, baseline.get(name, np.nan))] if known else []))
        del unit
    counts = figures.counts
    caption = (
        f"{counts['rows']} rows, {counts['joint_rows']} with 3D joints, {counts['mesh_rows']} with "
        f"a mesh, {counts['accel_frames']} frames with both neighbours. {figures.rule.text}."
    )
    return section("Figures", table(head, lines, caption=caption, num_text=2))


def _protocol(sample: PerSample) -> str:
    one = sample.meta["protocol"]
    names = {
        "title": "Protocol",
        "data_set": "Data set",
        "data": "Rows",
        "crop": "Crops",
        "views": "Views",
        "joints": "Joints",
        "alignment": "Alignment",
        "mesh": "Mesh",
    }
    items = "".join(f"<dt>{names[key]}</dt><dd>{escape(str(one[key]))}</dd>" for key in names)
    return section("How it was measured", f"<article><dl>{items}</dl></article>")


def _published(sample: PerSample) -> str:
    """Others' figures, or why there are none to compare with."""
    one = sample.meta["protocol"]
    rows = published_rows(one["name"])
    if one["departures"] or not rows:
        reasons = "; ".join(one["departures"]) or "nothing was published under this protocol"
        return section(
            "Published figures",
            f'<p class="notice">These figures cannot be compared with published ones: '
            f"{escape(reasons)}. Compare them with the mean mesh and with other runs on the same "
            "data (metro-ray compare).</p>",
        )
    names = [name for name in TITLES if any(name in row.figures for row in rows)]
    names += [name for name in ("f_5mm", "f_15mm") if any(name in row.figures for row in rows)]
    titles = {"f_5mm": "F@5 mm", "f_15mm": "F@15 mm"}
    head = ["method", "crops", *(TITLES[n][0] if n in TITLES else titles[n] for n in names)]
    means = sample.figures.means
    lines = [["this evaluation", "METRO's", *(_number(means.get(name)) for name in names), ""]]
    for row in rows:
        source = f"{row.source} ({row.note})" if row.note else row.source
        numbers = [_number(row.figures.get(name)) for name in names]
        lines.append([row.method, row.crops, *numbers, source])
    caption = f"{one['title']}, millimetres; F-scores come from metro-ray score, not from this page"
    shown_table = table([*head, "source"], lines, caption=caption, num_text=2, marked=[0])
    return section("Published figures", shown_table)


def _number(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"


def _charts(sample: PerSample) -> str:
    rows, figures = sample.table, sample.figures
    labels = {"mpve": rows.has_mesh, "pa_mpve": rows.has_mesh}
    drawn = [
        spread(f"{TITLES[f'{name}_mm'][0]} of each row", "mm", 1000 * getattr(rows, name)[has])
        for name in ("pa_mpjpe", "mpjpe", "mpve", "pa_mpve")
        if (has := labels.get(name, rows.has_joints_3d)).any()
    ]
    plain, aligned = "root-aligned", "Procrustes-aligned"
    drawn.append(
        curves(
            "Joints within a distance (PCK)",
            "mm",
            figures.rule.thresholds_mm,
            {plain: figures.pck, aligned: figures.pa_pck},
        )
    )
    names = [joint.name.replace("_", " ") for joint in figures.joints]
    errors = {
        plain: [joint.mpjpe_mm for joint in figures.joints],
        aligned: [joint.pa_mpjpe_mm for joint in figures.joints],
    }
    drawn.append(bars("Error by joint", "mm", names, errors))
    numbers = zip(names, errors[plain], errors[aligned], strict=True)
    lines = [[name, f"{one:.2f}", f"{two:.2f}"] for name, one, two in numbers]
    as_table = table(["joint", plain, aligned], lines, caption="Mean error by joint, mm")
    details = f"<details><summary>Errors by joint as a table</summary>{as_table}</details>"
    return section("Errors", f'<div class="charts">{"".join(drawn)}</div>{details}')


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
