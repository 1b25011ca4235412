"""The curves of a run's report, from the rows of `metrics.csv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from metro_ray.inference.line_chart import Line, line_chart

if TYPE_CHECKING:
    from metro_ray.training.recorder import CsvRow

_KINDS = {
    "train/loss": "total",
    "train/loss_joints_3d": "3D joints",
    "train/loss_keypoints_2d": "2D joints",
    "train/loss_vertices": "vertices",
}
_MOST_SOURCES = 8


def charts(
    rows: Sequence[CsvRow],
    source_names: Sequence[str],
    levels: Mapping[str, float],
    errors: Mapping[str, str],
) -> list[str]:
    """All curves that have points.

    Args:
        rows: Of `Recorder.rows`.
        source_names: Sources whose losses are told apart.
        levels: Errors of the mean mesh by title, millimetres.
        errors: Title of each validation error by its name.
    """
    terms = dict.fromkeys(name for row in rows for name in row if name.startswith("train/term/"))
    sources = source_names[:_MOST_SOURCES]
    wait = {"train/data_wait_share": "mean of the ranks"}
    if any(row.get("train/data_wait_max_rank", 0.0) for row in rows):
        wait["train/data_wait_share_max"] = "rank that waits most"
    times = {"train/step_seconds": "step", "train/data_seconds": "of it waiting for data"}
    drawn = [
        line_chart("Losses", "weighted sum, m2, m, crop units2", _lines(rows, _KINDS), log=True),
        line_chart(
            "Validation errors",
            "mm",
            _lines(rows, {f"val/{name}": title for name, title in errors.items()}, x="epoch"),
            levels=levels,
            x_name="epoch",
        ),
        line_chart(
            "Loss terms",
            "unweighted",
            _lines(rows, {name: name.removeprefix("train/term/") for name in terms}),
            log=True,
        ),
        line_chart(
            "Loss by source",
            "weighted sum",
            _lines(rows, {f"train/source/{name}/loss": name for name in sources}),
            log=True,
        ),
        line_chart("Learning rate", "of Adam", _lines(rows, {"train/lr": "learning rate"})),
        line_chart(
            "Gradient", "length", _lines(rows, {"train/grad_norm": "before clipping"}), log=True
        ),
        line_chart(
            "Speed", "images/s", _lines(rows, {"train/images_per_second": "all ranks together"})
        ),
        line_chart("Time of a step", "s", _lines(rows, times)),
        line_chart(
            "Time spent waiting for data", "% of the step", _lines(rows, wait, factor=100.0),
            most=100.0,
        ),
        line_chart(
            "Memory", "GiB, most of a rank so far",
            _lines(rows, {"train/max_memory_mib": "peak"}, factor=1 / 1024),
        ),
    ]  # fmt: skip
    return [chart for chart in drawn if chart]


def _lines(
    rows: Sequence[CsvRow], names: Mapping[str, str], *, x: str = "step", factor: float = 1.0
) -> list[Line]:
    lines = []
    for name, title in names.items():
        known = [row for row in rows if name in row]
        values = [factor * float(row[name]) for row in known]
        lines.append(Line(title, [float(row[x]) for row in known], values))
    return lines
