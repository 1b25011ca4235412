"""A check's report as text and as JSON."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from metro_ray.data.check import CheckReport, Finding
from metro_ray.data.check_label import KNOWN_FIELDS
from metro_ray.data.check_tally import HISTOGRAMS

VERSION = 1
_EXAMPLES_SHOWN = 3
_SIZES_SHOWN = 6
_WIDEST = 160


def to_json(report: CheckReport) -> dict[str, Any]:
    """Everything in the report, for other programs."""
    return {
        "version": VERSION,
        "data_set": report.name,
        "kind": report.kind,
        "rows": report.num_rows,
        "rows_checked": report.num_checked,
        "sources": [
            {"name": name, **_source_json(report, number)}
            for number, name in enumerate(report.source_names)
        ],
        "label_fields": dict(report.tally.fields),
        "joint_counts": dict(report.tally.joints),
        "body_models": dict(report.tally.body_models),
        "histograms": {
            name: {"edges": [_number(edge) for edge in HISTOGRAMS[name]], "counts": counts.tolist()}
            for name, counts in report.tally.histograms.items()
        },
        "findings": [
            finding._asdict() | {"examples": [example._asdict() for example in finding.examples]}
            for finding in report.findings
        ],
    }


def to_text(report: CheckReport) -> str:
    """The report to read in a terminal."""
    lines = [report.description, ""]
    if report.num_rows:
        lines += [*_overview(report), "", *_schema(report), ""]
    if not report.findings:
        lines.append("Nothing was found.")
    for finding in report.findings:
        lines += [*_finding(finding), ""]
    return "\n".join([*lines, summary(report)])


def summary(report: CheckReport) -> str:
    """One line: kinds of findings by severity."""
    counts = (
        _plural(report.count("error"), "error"),
        _plural(report.count("warning"), "warning"),
        _plural(report.count("note"), "note"),
    )
    checked = f"{report.num_checked} of {report.num_rows} rows checked"
    return f"{checked}: {', '.join(counts)}"


def source_table(report: CheckReport) -> list[tuple[str, ...]]:
    """A line a source, the head first."""
    table: list[tuple[str, ...]] = [
        ("source", "rows", "usable", "mesh", "3D joints", "2D joints", "images")
    ]
    for number, name in enumerate(report.source_names):
        source = report.tally.sources.get(number)
        if source is None:
            continue
        usable = source.rows - source.unreadable
        counts = (source.rows, usable, source.mesh, source.joints_3d, source.keypoints_2d)
        formats, sizes = most_common(source.formats, 3), most_common(source.sizes, _SIZES_SHOWN)
        images = "; ".join(text for text in (formats, sizes) if text) or "none can be read"
        table.append((name, *map(str, counts), images))
    return table


def schema_lines(report: CheckReport) -> list[tuple[str, str]]:
    """What labels hold: fields, joint counts, body models, as name and text."""
    tally, checked = report.tally, report.num_checked
    known = [_share(name, tally.fields[name], checked) for name in KNOWN_FIELDS]
    unknown = [name for name in tally.fields if name not in KNOWN_FIELDS]
    lines = [("label fields", ", ".join(text for text in known if text))]
    absent = [name for name in KNOWN_FIELDS if not tally.fields[name]]
    if absent:
        lines.append(("without the fields", ", ".join(absent)))
    if unknown:
        lines.append(("not known", ", ".join(unknown)))
    lines.append(("joints", most_common(tally.joints, 5) or "none"))
    lines.append(("body model of mesh labels", most_common(tally.body_models, 5) or "none"))
    return lines


def most_common(counter: Counter[str], limit: int) -> str:
    """`a (3), b (2)`, without numbers where there is only one name."""
    if len(counter) == 1:
        return next(iter(counter))
    shown = [f"{name} ({count})" for name, count in counter.most_common(limit)]
    more = len(counter) - len(shown)
    return ", ".join([*shown, *([f"and {more} more"] if more > 0 else [])])


def _overview(report: CheckReport) -> list[str]:
    table = source_table(report)
    widths = [max(len(line[column]) for line in table) for column in range(6)]
    lines = []
    for name, *counts, images in table:
        shown = "  ".join(text.rjust(width) for text, width in zip(counts, widths[1:], strict=True))
        lines.append(f"{name.ljust(widths[0])}  {shown}  {images}")
    return lines


def _schema(report: CheckReport) -> list[str]:
    return [f"{name}: {text}" for name, text in [("kind", report.kind), *schema_lines(report)]]


def _finding(finding: Finding) -> list[str]:
    lines = [f"{finding.severity.upper()} {finding.code}: {finding.what} ({finding.count})"]
    for example in finding.examples[:_EXAMPLES_SHOWN]:
        where = f"row {example.row_id} ({example.key}): " if example.row_id >= 0 else ""
        lines.append(f"    {_short(where + example.detail)}")
    if finding.count > min(_EXAMPLES_SHOWN, len(finding.examples)):
        lines.append("    ...")
    lines.append(f"  -> {finding.advice}")
    return lines


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def _share(name: str, count: int, of: int) -> str:
    if not count:
        return ""
    return name if count == of else f"{name} ({count} of {of})"


def _source_json(report: CheckReport, number: int) -> dict[str, Any]:
    source = report.tally.source(number)
    return {
        "rows": source.rows,
        "unreadable": source.unreadable,
        "mesh": source.mesh,
        "joints_3d": source.joints_3d,
        "keypoints_2d": source.keypoints_2d,
        "formats": dict(source.formats),
        "sizes": dict(source.sizes),
    }


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _number(value: float) -> float | str:
    """JSON has no infinity."""
    return float(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")
