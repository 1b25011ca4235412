"""`report.html`: a run on one page that opens from disk: no network, no script.

It is written after every epoch, so a run that died has one too, and again when the run is over,
then with the mean mesh to compare with and rows to look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2

from metro_ray.evaluation.protocols import protocol_of
from metro_ray.inference.line_chart import STYLE as CHART_STYLE
from metro_ray.inference.page import document, encode_jpeg, figure, table
from metro_ray.inference.report_parts import STYLE, environment_list, section, settings_table
from metro_ray.inference.report_rows import Pictures, rows_section
from metro_ray.training.files import write_bytes
from metro_ray.training.report_charts import charts
from metro_ray.training.system import describe_environment

if TYPE_CHECKING:
    from metro_ray.bodies.spec import MeshSpec
    from metro_ray.training.recorder import CsvRow
    from metro_ray.training.summary import RunSummary

FILE = "report.html"
_ERRORS = {"pa_mpjpe_mm": "PA-MPJPE", "mpjpe_mm": "MPJPE", "mpve_mm": "MPVE"}
_FILES = {
    "gallery.html": "predictions to turn with the mouse",
    "result.json": "every number of this page's tables",
    "metrics.csv": "every number of its curves",
    "log.txt": "what the run said",
    "config.yaml": "all settings; --preset reads it",
    "per_sample": "errors of every validation row",
    "checkpoints": "weights",
}
_SHOWN_ROWS = 50
_STYLE = (
    STYLE
    + CHART_STYLE
    + """
td.text { overflow-wrap: anywhere; } .tiles b { white-space: nowrap; }
.epoch img { width: 100%; max-width: 1000px; }
"""
)


def write_run_report(
    summary: RunSummary,
    spec: MeshSpec,
    result: Mapping[str, Any] | None = None,
    pictures: Pictures | None = None,
) -> Path:
    """Write the page into the run's folder.

    Args:
        summary: Of the run so far.
        spec: Of the predicted mesh.
        result: What `result.json` holds; None while the run goes on.
        pictures: Rows to look at; without them the picture of the last epoch is shown.

    Returns:
        Its path.
    """
    facts, folder = _Facts(summary, spec, result), summary.run_dir
    parts = [
        _tiles(facts),
        section("Errors", _errors(facts)),
        section("Curves", _curves(facts)),
        _epoch_picture(folder) if pictures is None else rows_section(pictures),
        section("Settings", settings_table(facts.run.config)),
        section("Where it ran", environment_list(describe_environment(facts.run.device))),
        section("Starts", _starts(facts)),
        section("Left out", _left_out(facts)),
        section("Files", _files(folder)),
    ]
    text = document(
        title=f"{folder.name}: METRO {facts.run.config.kind}, {facts.run.config.model.arch}",
        notes=_notes(facts),
        style=_STYLE,
        body=f"<main>{''.join(parts)}</main>",
    )
    path = folder / FILE
    write_bytes(path, text.encode())
    return path


class _Facts(NamedTuple):
    """What the parts of the page are made of."""

    run: RunSummary
    spec: MeshSpec
    result: Mapping[str, Any] | None


def _notes(facts: _Facts) -> list[str]:
    wanted = facts.run.config.optim.epochs
    if facts.run.config.eval.only:
        state = "Evaluation only."
    elif facts.result is None:
        state = f"Written after epoch {facts.run.epochs} of {wanted}; the run had not ended."
    else:
        state = f"Complete: {facts.run.epochs} epochs, {facts.run.steps} steps."
    return [f"{state} {_duration(facts.run.seconds)} on {facts.run.world_size} rank(s)."]


def _tiles(facts: _Facts) -> str:
    best = _best(facts)
    known = [(title, best[name]) for name, title in _ERRORS.items() if name in best]
    tiles = [(f"{title}, mm", f"{value:.1f}", "best epoch") for title, value in known]
    speed = facts.run.trained
    if speed:
        tiles += [
            ("Speed", f"{speed['train/images_per_second']:.1f}", "images a second, whole run"),
            ("Data wait", _percent(speed["train/data_wait_share"]), "of the steps' time"),
            ("Memory", f"{speed['train/max_memory_mib'] / 1024:.1f} GiB", "most of a rank"),
        ]
    cards = "".join(
        f"<article><small>{escape(title)}</small><b>{escape(value)}</b>"
        f"<small>{escape(meaning)}</small></article>"
        for title, value, meaning in tiles
    )
    return f'<section class="tiles" aria-label="In short">{cards}</section>'


def _errors(facts: _Facts) -> str:
    """The best and the last validation beside the mean mesh, with the protocol."""
    best, last = _best(facts), _validations(facts)[-1:]
    if not best:
        return '<p class="notes">There was no validation.</p>'
    result = facts.result or {}
    lines = []
    for name, title in _ERRORS.items():
        if name not in best:
            continue
        mean = result.get(f"baseline/{name}")
        beside = "-" if not mean else f"{100 * (1 - best[name] / mean):.1f} %"
        end = last[0].get(f"val/{name}")
        lines.append([title, _mm(best[name]), _mm(end), _mm(mean), beside])
    head = ["error", f"best (epoch {best['epoch']:.0f})", "last", "mean mesh", "better by"]
    used = protocol_of(facts.run.config, facts.spec)
    reasons = result.get("reasons", {})
    why = {str(reasons[f"baseline/{name}"]) for name in _ERRORS if f"baseline/{name}" in reasons}
    notes = [f"{used.line}.", *(f"Mean mesh: {reason}." for reason in sorted(why))]
    if facts.result is None:
        notes.append("The mean mesh is measured when the run is over.")
    caption = f"Millimetres; the best epoch is that of the lowest {lines[0][0]}"
    told = "".join(f'<p class="notes">{escape(note)}</p>' for note in notes)
    return table(head, lines, caption=caption) + told


def _curves(facts: _Facts) -> str:
    result = facts.result or {}
    levels = {
        title: result[f"baseline/{name}"]
        for name, title in _ERRORS.items()
        if result.get(f"baseline/{name}") is not None
    }
    drawn = "".join(charts(facts.run.rows, facts.run.source_names, levels, _ERRORS))
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _epoch_picture(folder: Path) -> str:
    """Predictions after the last epoch that drew some."""
    found = sorted((folder / "pictures").glob("epoch-*.png"))
    picture = cv2.imread(str(found[-1])) if found else None
    if picture is None:
        return ""
    name = f"epoch {int(found[-1].stem.removeprefix('epoch-'))}"
    jpeg = encode_jpeg(picture[:, :, ::-1])
    words = "photograph, mesh over it, joints over it, mesh from the side"
    shown = figure(jpeg, picture.shape[:2], f"{name}: {words}", words)
    return section(f"Predictions after {name}", f'<div class="epoch">{shown}</div>')


def _starts(facts: _Facts) -> str:
    head = ["when (UTC)", "why", "device", "ranks", "epoch", "step"]
    lines = [
        [
            s.at.removesuffix("+00:00"),
            s.reason,
            s.device,
            str(s.world_size),
            str(s.epoch),
            str(s.step),
        ]
        for s in facts.run.starts
    ]
    caption = "How the run began, and where it went on after it was interrupted"
    return table(head, lines, caption=caption, num_text=3)


def _left_out(facts: _Facts) -> str:
    skipped = facts.run.trained.get("train/skipped_steps", 0.0)
    rows, count = facts.run.bad_rows["rows"], facts.run.bad_rows["count"]
    words = f"{count} rows could not be read; {skipped:.0f} steps were not finite."
    if not rows:
        return f'<p class="notes">{words}</p>'
    lines = [[row["key"], row["reason"]] for row in rows[:_SHOWN_ROWS]]
    more = f" The first {_SHOWN_ROWS}; result.json has all." if len(rows) > _SHOWN_ROWS else ""
    return table(["row", "reason"], lines, caption=words + more, num_text=2)


def _files(folder: Path) -> str:
    items = "".join(
        f'<dt><a href="{name}">{name}</a></dt><dd>{escape(meaning)}</dd>'
        for name, meaning in _FILES.items()
        if (folder / name).exists()
    )
    return f"<article><dl>{items}</dl></article>" if items else ""


def _validations(facts: _Facts) -> list[CsvRow]:
    return [row for row in facts.run.rows if row["kind"] == "val"]


def _best(facts: _Facts) -> dict[str, float]:
    """Errors and `epoch` of the best validation."""
    rows = _validations(facts)
    ranked = next((n for n in _ERRORS if any(f"val/{n}" in row for row in rows)), None)
    if ranked is None:
        return {}
    known = [row for row in rows if f"val/{ranked}" in row]
    best = min(known, key=lambda row: float(row[f"val/{ranked}"]))
    found = {name: float(best[f"val/{name}"]) for name in _ERRORS if f"val/{name}" in best}
    return {**found, "epoch": float(best["epoch"])}


def _mm(value: float | int | str | None) -> str:
    return "-" if value is None else f"{float(value):.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
