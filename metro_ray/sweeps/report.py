"""`report.html`: a sweep on one page that opens from disk."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from metro_ray.config.sweep import num_trials
from metro_ray.inference.page import document, table
from metro_ray.sweeps.axes import Axis, axis_around, axis_of, error_axis
from metro_ray.sweeps.charts import (
    STYLE,
    Line,
    Mark,
    parallel,
    pareto,
    scatter,
    share_bars,
    trial_curves,
)
from metro_ray.sweeps.importance import importances
from metro_ray.sweeps.ledger import Ledger, SweepRecord
from metro_ray.sweeps.status import cell_text
from metro_ray.sweeps.table import rows
from metro_ray.training.files import write_bytes

REPORT = "report.html"
_ERROR = "PA-MPJPE, mm"
_LAYERS = "model.num_hidden_layers"


def write_report(ledger: Ledger, record: SweepRecord) -> None:
    """Write the page."""
    everything = rows(ledger, record)
    scored = [row for row in everything if row["pa_mpjpe_mm"] is not None]
    best = min(scored, key=lambda row: row["pa_mpjpe_mm"], default=None)
    charts = _charts(ledger, record, scored, best) if best is not None else []
    body = f'<div class="charts">{"".join(charts)}</div>{_table(ledger, record, everything, best)}'
    page = document(title="Sweep", notes=_notes(ledger, record, best), style=STYLE, body=body)
    write_bytes(ledger.folder / REPORT, page.encode())


def _notes(ledger: Ledger, record: SweepRecord, best: dict[str, Any] | None) -> list[str]:
    states = [trial.state for trial in ledger.trials.values()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    sweep, base = record.sweep, record.base
    notes = [
        f"{len(states)} of {num_trials(sweep, record.space)} trials ({counts or 'none yet'}), "
        f"up to {base.optim.epochs} epochs each; early stopping: {sweep.scheduler}",
        *(f"{dimension.key}: {dimension.text}" for dimension in record.space.dimensions),
        f"trained on {base.data.train_yaml}, compared on {base.data.val_yaml}",
    ]
    beside = [
        row["wall_seconds"] - row["seconds"]
        for row in rows(ledger, record)
        if row["state"] in ("done", "stopped") and row["starts"] == 1 and row["seconds"]
    ]
    if beside:
        notes.append(
            f"beside its own steps a trial took {np.median(beside):.0f} s (median): starting and "
            "ending its processes"
        )
    if best is not None:
        notes.insert(
            1,
            f"best: trial {best['trial']} with {best['pa_mpjpe_mm']:.1f} mm after epoch "
            f"{best['best_epoch']}; its checkpoint is named in best.json, --preset best.yaml "
            "trains with its settings",
        )
    return notes


def _charts(
    ledger: Ledger, record: SweepRecord, scored: Sequence[dict[str, Any]], best: dict[str, Any]
) -> list[str]:
    errors = error_axis(_ERROR, [row["pa_mpjpe_mm"] for row in scored])
    marked = [(row, _mark(record, row, best)) for row in scored]
    axes = [axis_of(dimension) for dimension in record.space.dimensions]
    lines = [
        mark._replace(values=(*_values(ledger, record, row), row["pa_mpjpe_mm"]))
        for row, mark in marked
    ]
    words = "Every line is a trial; dashed ones were stopped, the thick one is the best."
    if any(row["pa_mpjpe_mm"] > errors.high for row in scored):
        words += f" Errors above {errors.high:.0f} mm are drawn at the upper end, here and below."
    charts = [parallel([*axes, errors], lines, words)]
    for place, axis in enumerate(axes):
        points = [line._replace(values=(line.values[place], line.values[-1])) for line in lines]
        charts.append(_against(axis, errors, points))
    charts += _costs(marked, errors)
    charts.append(_curves(ledger, record, best))
    shares, remark = importances(ledger, record)
    title = "What the error depends on"
    if shares:
        charts.append(share_bars(title, shares, f"Functional ANOVA {remark}."))
    else:
        charts.append(f"<article><h2>{title}</h2><p>No answer: {escape(remark)}.</p></article>")
    return charts


def _against(axis: Axis, errors: Axis, points: Sequence[Mark]) -> str:
    best = next(point for point in points if point.is_best)
    words = f"Best at {cell_text(best.values[0])}. Open points are trials that were stopped early."
    name = "Learning rate" if axis.title == "optim.lr" else axis.title
    name = "Layers" if axis.title == _LAYERS else name
    return scatter(f"{name} and error", axis, errors, points, words)


def _costs(marked: Sequence[tuple[dict[str, Any], Mark]], errors: Axis) -> list[str]:
    """Accuracy against cost: speed, and parameters where they differ."""
    charts = []
    for name, title, unit, good in (
        ("images_per_second", "Speed and error", "images/s while training, all ranks", "high"),
        ("parameters", "Parameters and error", "parameters, millions", "low"),
    ):
        scale = 1e-6 if name == "parameters" else 1.0
        points = [
            mark._replace(values=(row[name] * scale, row["pa_mpjpe_mm"]))
            for row, mark in marked
            if row[name]
        ]
        if len({point.values[0] for point in points}) < 2:
            continue
        axis = axis_around(unit, [point.values[0] for point in points])
        edge = ", ".join(point.name for point in pareto(points, good))
        words = f"No other trial is better in both than trial(s) {edge} (dotted line)."
        charts.append(scatter(title, axis, errors, points, words, front=good))
    return charts


def _curves(ledger: Ledger, record: SweepRecord, best: dict[str, Any]) -> str:
    lines = []
    for number, trial in sorted(ledger.trials.items()):
        points = tuple((epoch.epoch, epoch.pa_mpjpe_mm) for epoch in ledger.history(number))
        if points:
            label = f"trial {number}: {trial.state} after epoch {points[-1][0]}"
            stopped = trial.state == "stopped"
            is_best = number == best["trial"]
            lines.append(Line(label, str(number), points, trial.state == "done", is_best, stopped))
    values = [value for line in lines for _, value in line.points]
    epochs = record.base.optim.epochs
    x = Axis(title="epochs", low=0.0, high=epochs + 0.5)
    words = f"{sum(line.was_stopped for line in lines)} trial(s) were stopped where a cross is."
    return trial_curves("Error over the epochs", x, error_axis(_ERROR, values), lines, words)


def _mark(record: SweepRecord, row: dict[str, Any], best: dict[str, Any]) -> Mark:
    keys = [dimension.key for dimension in record.space.dimensions]
    settings = ", ".join(f"{key} {cell_text(row[key])}" for key in keys)
    label = (
        f"trial {row['trial']}: {row['pa_mpjpe_mm']:.1f} mm, {row['state']} after epoch "
        f"{row['epochs']}; {settings}"
    )
    is_best = row["trial"] == best["trial"]
    return Mark(label, str(row["trial"]), (), row["state"] == "done", is_best)


def _values(ledger: Ledger, record: SweepRecord, row: dict[str, Any]) -> list[Any]:
    values = ledger.trials[row["trial"]].values
    return [values[dimension.key] for dimension in record.space.dimensions]


def _pages(ledger: Ledger) -> str:
    """Links to the reports that the trials' runs wrote, beside this one."""
    links = []
    for number in sorted(ledger.trials):
        page = ledger.trial_folder(number) / REPORT
        if page.is_file():
            links.append(f'<a href="{page.relative_to(ledger.folder).as_posix()}">{number}</a>')
    return f"<p class='notes'>Reports of the trials: {', '.join(links)}</p>" if links else ""


def _table(
    ledger: Ledger,
    record: SweepRecord,
    everything: Sequence[dict[str, Any]],
    best: dict[str, Any] | None,
) -> str:
    keys = [dimension.key for dimension in record.space.dimensions]
    names = ["trial", "state", *keys, "pa_mpjpe_mm", "best_epoch", "epochs", "seconds"]
    names += ["wall_seconds", "images_per_second", "parameters", "starts"]
    ranked = sorted(
        everything, key=lambda row: np.inf if row["pa_mpjpe_mm"] is None else row["pa_mpjpe_mm"]
    )
    lines = [[cell_text(row[name]) for name in names] for row in ranked]
    marked = [number for number, row in enumerate(ranked) if row is best]
    shown = table(names, lines, caption="Trials, the best first", num_text=2, marked=marked)
    shown += _pages(ledger)
    failed = [row for row in everything if row["error"]]
    if failed:
        reasons = [[str(row["trial"]), str(row["error"])] for row in failed]
        shown += "<br>" + table(["trial", "error"], reasons, caption="Failed trials", num_text=2)
    return shown
