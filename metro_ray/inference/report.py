"""The page of an evaluation: figures beside published ones, curves, joints, rows to look at.

Everything but the pictures is computed from a file of per-sample results, so a page can be made
again from a run's folder at any time. Self-contained; no network, no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from metro_ray.config.load import from_dict
from metro_ray.evaluation.figures import TITLES, shown
from metro_ray.evaluation.per_sample import METRO_NAMES, PerSample
from metro_ray.evaluation.published import published_rows
from metro_ray.inference.charts import bars, curves, spread
from metro_ray.inference.page import document, table
from metro_ray.inference.report_paired import augmentation_section
from metro_ray.inference.report_parts import STYLE, environment_list, section, settings_table
from metro_ray.inference.report_rows import Pictures, rows_section
from metro_ray.training.files import write_bytes


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
        section("Settings", settings_table(from_dict(sample.meta["config"]))),
        section("Where it was measured", environment_list(sample.meta["environment"])),
    ]
    body = f"<main>{''.join(sections)}</main>"
    text = document(title=title, notes=notes, style=STYLE, body=body)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode())
    return path


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
    known = any(np.isfinite(baseline.get(name, np.nan)) for name in TITLES)
    head = ["figure", "this evaluation", *(["mean mesh"] if known else []), "meaning"]
    lines = []
    for name, (short, _, meaning) in TITLES.items():
        at = f"@{figures.rule.name}" if name.endswith(("pck", "auc")) else ""
        numbers = [figures.means[name], *([baseline.get(name, np.nan)] if known else [])]
        lines.append([f"{short}{at}", *(shown(name, value) for value in numbers), meaning])
    counts = figures.counts
    caption = (
        f"{counts['rows']} rows, {counts['joint_rows']} with 3D joints, {counts['mesh_rows']} with "
        f"a mesh, {counts['accel_frames']} frames with both neighbours. {figures.rule.text}."
    )
    exact = table(head, lines, caption=caption, last_is_text=True)
    return section("Figures", exact + _metro_averages(sample))


def _metro_averages(sample: PerSample) -> str:
    """METRO's own averages beside the exact ones."""
    averages = sample.meta["metro_averages"]
    means = sample.figures.means
    lines = [
        [TITLES[f"{name}_mm"][0], _millimetres(averages[f"{name}_mm"]), _millimetres(exact)]
        for name in METRO_NAMES
        for exact in (means[f"{name}_mm"],)
    ]
    caption = (
        f"{averages['processes']} processes, batches of {averages['batch_size']}: METRO averages "
        "the processes' averages and counts padded rows twice, so its figures depend on both"
    )
    compared = table(["figure", "METRO's averaging", "exact"], lines, caption=caption)
    return f"<details><summary>METRO's own averaging</summary>{compared}</details>"


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
    shown_table = table(
        [*head, "source"], lines, caption=caption, num_text=2, last_is_text=True, marked=[0]
    )
    return section("Published figures", shown_table)


def _millimetres(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.2f}"


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
    details = ""
    if rows.has_joints_3d.any():
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
