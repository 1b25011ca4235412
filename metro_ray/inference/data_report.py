"""The page of a data check: tables, histograms, and a contact sheet of rows. Self-contained."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from metro_ray.data.check import CheckReport, spread_rows
from metro_ray.data.check_row import RowFacts, inspect_row
from metro_ray.data.check_rules import RULES, SEVERITIES
from metro_ray.data.check_tally import HISTOGRAMS
from metro_ray.data.check_text import summary
from metro_ray.data.transform import decode_image
from metro_ray.errors import DataError
from metro_ray.geometry.boxes import check_box
from metro_ray.geometry.crop import crop_fast
from metro_ray.inference.charts import histogram
from metro_ray.inference.data_report_parts import (
    STYLE,
    badge,
    findings_table,
    overview,
)
from metro_ray.inference.data_report_pictures import (
    LabelMeshes,
    label_picture,
    mesh_close_up,
    plain_picture,
)
from metro_ray.inference.page import document, encode_jpeg, figure

if TYPE_CHECKING:
    from pathlib import Path

    from metro_ray.data.rows import RowDataset

SAMPLED_ROWS = 24
ROWS_PER_FINDING = 4
_TILE_PX = 320
_TITLES = {
    "box_side_px": ("Side of the box", "pixels"),
    "joint_confidence": ("Confidence of 2D joints", "0 to 1"),
    "pose_angle_deg": ("Angle of pose joints, without the root", "degrees"),
}
_LEGEND = {
    "body": "<b>Joints</b> with confidence: the person's own right side red, left side blue, "
    "middle yellow.",
    "hand": "<b>Joints</b> with confidence: a colour a finger, red for the thumb to violet for the "
    "little finger.",
}
_PICTURES = (
    "<b>Box</b>: yellow; the crop is what lies in it. Right: the crop, or, where the row has a "
    "mesh whose body model is here, a little more with the mesh over it, seen by the "
    "weak-perspective camera that fits the 3D joints to the 2D joints."
)


def render_report(
    dataset: RowDataset | None, report: CheckReport, *, assets_root: str | Path | None = None
) -> str:
    """The page as text.

    Args:
        dataset: what was checked, to read the rows that are shown; None where it cannot be opened.
        report: of the check.
        assets_root: folder of the model files; meshes whose model is missing are left out.
    """
    sampled, odd = _chosen(report) if dataset is not None else ([], [])
    meshes = LabelMeshes(assets_root)
    parts = [findings_table(report.findings, {*sampled, *odd})]
    if report.num_rows:
        parts = [overview(report), *parts, _histograms(report)]
    if dataset is not None:
        parts += [
            f'<h2 class="part">Rows</h2><p class="legend">{_LEGEND[report.kind]} {_PICTURES}</p>',
            _cards("Rows with findings", dataset, odd, report, meshes),
            _cards("Rows from the whole data set", dataset, sampled, report, meshes),
        ]
    notes = [report.description, summary(report)]
    if meshes.lacking:
        notes.append(
            f"Meshes of {', '.join(sorted(meshes.lacking))} are not drawn: its files are not here "
            "(metro-ray doctor says which)."
        )
    body = f"<main>{''.join(parts)}</main>"
    return document(title=f"Data check: {_short(report.name)}", notes=notes, style=STYLE, body=body)


def _chosen(report: CheckReport) -> tuple[list[int], list[int]]:
    """Rows to show: some of those with findings, and others evenly spread."""
    examples = (finding.examples[:ROWS_PER_FINDING] for finding in report.findings)
    odd = {example.row_id for group in examples for example in group if example.row_id >= 0}
    spread = (int(row_id) for row_id in spread_rows(report.num_rows, SAMPLED_ROWS))
    return [row_id for row_id in spread if row_id not in odd], sorted(odd)


def _histograms(report: CheckReport) -> str:
    found = report.tally.histograms
    drawn = [
        histogram(*_TITLES[name], HISTOGRAMS[name], found[name])
        for name in _TITLES
        if name in found
    ]
    if not drawn:
        return ""
    return f'<h2 class="part">Numbers</h2><div class="histograms">{"".join(drawn)}</div>'


def _cards(
    title: str,
    dataset: RowDataset,
    row_ids: Iterable[int],
    report: CheckReport,
    meshes: LabelMeshes,
) -> str:
    facts = (inspect_row(dataset, row_id, report.kind) for row_id in row_ids)
    cards = [_card(row, report, meshes) for row in facts]
    if not cards:
        return ""
    return f'<h3>{title}</h3><div class="rows">{"".join(cards)}</div>'


def _card(facts: RowFacts, report: CheckReport, meshes: LabelMeshes) -> str:
    source = ""
    if len(report.source_names) > 1:
        source = f" of {report.source_names[facts.source]}"
    ranked = sorted(facts.problems, key=lambda p: SEVERITIES.index(RULES[p.code].severity))
    problems = "".join(
        f"<li>{badge(RULES[p.code].severity)} {escape(RULES[p.code].what)}: {escape(p.detail)}</li>"
        for p in ranked
    )
    listed = f'<ul class="problems">{problems}</ul>' if problems else ""
    return (
        f'<article id="row-{facts.row_id}"><h2>{escape(facts.key)}</h2>'
        f'<p class="notes">row {facts.row_id}{escape(source)}</p>'
        f'<div class="pair">{_figures(facts, meshes)}</div>{listed}</article>'
    )


def _figures(facts: RowFacts, meshes: LabelMeshes) -> str:
    """The row's pictures, as many as can be made of it."""
    if facts.row is None or facts.image is None or facts.image.size is None:
        return '<p class="none">There is no picture to show.</p>'
    image = np.ascontiguousarray(decode_image(facts.row.image_bytes)[:, :, ::-1])
    label = None if facts.label is None else facts.label.label
    if label is None or facts.label is None:
        return _picture(plain_picture(image, _TILE_PX), f"{facts.key}, no usable label", "photo")
    spec = facts.label.spec
    try:
        check_box(label.center, label.scale)
    except DataError:
        return _picture(plain_picture(image, _TILE_PX), f"{facts.key}, no usable box", "photo")
    shown = label_picture(image, label, spec, _TILE_PX)
    height, width = image.shape[:2]
    caption = f"{width} x {height}, box of {200 * label.scale:.0f} px"
    figures = _picture(shown, f"{facts.key} with box and joints", caption)
    result = meshes.place(label, spec)
    if result is None:
        crop = crop_fast(image, label.center, label.scale, _TILE_PX)
        return figures + _picture(crop, f"the crop of {facts.key}", "the crop")
    close = mesh_close_up(image, result, _TILE_PX)
    return figures + _picture(close, f"the label's mesh over {facts.key}", f"mesh: {spec.name}")


def _picture(picture: np.ndarray, description: str, caption: str) -> str:
    size = (picture.shape[0], picture.shape[1])
    return figure(encode_jpeg(picture), size, description, caption)


def _short(name: str) -> str:
    return "/".join(name.rstrip("/").split("/")[-2:])
