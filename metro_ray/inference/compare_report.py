"""The page of a comparison of two evaluations. Self-contained; no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from metro_ray.evaluation.comparison import (
    Comparison,
    RowChange,
    SettingDifference,
    difference_distribution,
)
from metro_ray.evaluation.figures import TITLES
from metro_ray.evaluation.paired import PairedDifference
from metro_ray.inference.charts import bars, signed_spread
from metro_ray.inference.page import document, table
from metro_ray.inference.report_paired import difference_table, pck_parts, title_of
from metro_ray.inference.report_parts import STYLE, section
from metro_ray.inference.report_rows import Pictures, rows_section
from metro_ray.training.files import write_bytes

_STYLE = (
    STYLE
    + """
.rows { grid-template-columns: 1fr; } .rows .panels { grid-template-columns: repeat(5, 1fr); }
@media (max-width: 560px) { .rows .panels { grid-template-columns: repeat(2, 1fr); }
  .rows figure:first-child { grid-column: 1 / -1; } .rows figure:first-child img { width: 50%; } }
"""
)
_NAMES = ("A", "B")


def write_comparison(
    path: Path,
    comparison: Comparison,
    names: tuple[str, str],
    pictures: Pictures | str,
) -> Path:
    """Write the page.

    Args:
        path: of the page; its folder is made.
        comparison: of evaluation B with evaluation A.
        names: what A and B are called.
        pictures: of the rows that changed most, or why there are none, plain text.

    Returns:
        `path`.
    """
    one = comparison
    sections = [
        _sides(one, names),
        section("Figures", difference_table(one.figures, _NAMES) + _warnings(one)),
        section("Rows and joints", _charts(one)),
        section("Joints within a distance", pck_parts(one.a, one.b, _NAMES)),
        section("Rows that changed most", _changes(one)),
        rows_section(pictures)
        if isinstance(pictures, Pictures)
        else section("Pictures", f'<p class="notice">No pictures: {escape(pictures)}</p>'),
        section("Settings that differ", _differing(one.settings, "All settings but the folder")),
        section("Environment that differs", _differing(one.environment, "Machine and versions")),
    ]
    notes = [
        f"{len(one.rows.keys)} rows in both, paired by number and key. Intervals are those of "
        "2,000 bootstrap draws of rows; frames of a video are not independent, so there they are "
        "narrower than they should be."
    ]
    text = document(
        title=f"{names[1]} compared with {names[0]}",
        notes=notes,
        style=_STYLE,
        body=f"<main>{''.join(sections)}</main>",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode())
    return path


def _sides(one: Comparison, names: tuple[str, str]) -> str:
    lines = []
    for letter, name, sample in zip(_NAMES, names, (one.a, one.b), strict=True):
        protocol = sample.meta["protocol"]
        rows, file = str(len(sample.table.row_id)), sample.path.name
        lines.append(
            [letter, name, file, f"{protocol['title']}, {protocol['mesh']}", protocol["data_set"],
             rows]
        )  # fmt: skip
    head = ["", "run", "results", "protocol", "data", "rows"]
    return section(
        "What is compared", table(head, lines, caption="B is compared with A", num_text=5)
    )


def _warnings(one: Comparison) -> str:
    return "".join(f'<p class="notice">{escape(text)}</p>' for text in one.warnings)


def _charts(one: Comparison) -> str:
    title = TITLES[f"{one.ranked_by}_mm"][0]
    drawn = [signed_spread(f"{title} of each row, B minus A", "mm", difference_distribution(one))]
    tables = []
    for joints, words in (
        (one.joints, "root-aligned"),
        (one.aligned_joints, "Procrustes-aligned"),
    ):
        if joints:
            drawn.append(_bars(f"Error by joint, {words}", joints))
            caption = f"Error by joint, {words}: B minus A, millimetres"
            tables.append(difference_table(joints, _NAMES, caption))
    details = (
        f"<details><summary>Joints as tables</summary>{''.join(tables)}</details>" if tables else ""
    )
    return f'<div class="charts">{"".join(drawn)}</div>{details}'


def _bars(title: str, joints: Sequence[PairedDifference]) -> str:
    series = {"A": [one.a_mm for one in joints], "B": [one.b_mm for one in joints]}
    return bars(title, "mm", [title_of(one.name) for one in joints], series)


def _changes(one: Comparison) -> str:
    title = TITLES[f"{one.ranked_by}_mm"][0]

    def lines(rows: Sequence[RowChange]) -> list[list[str]]:
        return [
            [r.key, str(r.row_id), f"{r.a_mm:.1f}", f"{r.b_mm:.1f}", f"{r.difference_mm:+.1f}"]
            for r in rows
        ]

    head = ["row", "number", "A", "B", "B minus A"]
    return "".join(
        table(head, lines(rows), caption=f"{words} {title} in B, millimetres")
        for words, rows in (("Less", one.improved), ("More", one.worsened))
        if rows
    )


def _differing(differing: Sequence[SettingDifference], caption: str) -> str:
    if not differing:
        return '<p class="notes">Nothing.</p>'
    lines = [[setting.name, setting.a, setting.b] for setting in differing]
    return table(["name", "A", "B"], lines, caption=caption, num_text=3)
