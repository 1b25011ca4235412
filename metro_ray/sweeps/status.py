"""A sweep, running or finished, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metro_ray.config.sweep import num_trials
from metro_ray.sweeps.ledger import ENDED, Ledger, SweepRecord
from metro_ray.sweeps.table import rows


def status_text(ledger: Ledger) -> str:
    """How many trials there are and how far, then one line for each, the best first.

    Raises:
        ConfigError: The sweep's settings cannot be read.
    """
    record = ledger.settings()
    table = rows(ledger, record)
    counts = {state: sum(row["state"] == state for row in table) for state in (*ENDED, "running")}
    parts = [f"{count} {state}" for state, count in counts.items() if count]
    total = num_trials(record.sweep, record.space)
    head = (
        f"{ledger.folder}: {len(table)} of {total} trials begun; {', '.join(parts) or 'none yet'}"
    )
    best = ledger.best()
    if best is not None:
        trial, epoch = best
        head += (
            f"\nbest: trial {trial.number}, PA-MPJPE {epoch.pa_mpjpe_mm:.1f} mm after epoch "
            f"{epoch.epoch}"
        )
    return "\n".join([head, *_lines(table, record)])


def _lines(table: Sequence[dict[str, Any]], record: SweepRecord) -> list[str]:
    keys = [dimension.key for dimension in record.space.dimensions]
    shown = ["trial", "state", *keys, "pa_mpjpe_mm", "epochs", "seconds", "parameters"]
    ranked = sorted(table, key=lambda row: (row["pa_mpjpe_mm"] is None, row["pa_mpjpe_mm"]))
    return columns(shown, [[cell_text(row[name]) for name in shown] for row in ranked])


def columns(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of text whose cells stand below each other."""
    table = [list(head), *map(list, lines)]
    widths = [max(len(line[place]) for line in table) for place in range(len(head))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in table
    ]


def cell_text(value: Any) -> str:
    """A number with a few digits, anything else as it is; "-" where there is none."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return str(value)
