"""`curves.png`: losses, learning rate, validation against the baseline, and where the time went."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_ray.errors import TrainingError
from metro_ray.training.files import write_bytes

if TYPE_CHECKING:
    from metro_ray.training.recorder import CsvRow

_LOSSES = {
    "train/loss": "total",
    "train/loss_joints_3d": "3D joints",
    "train/loss_keypoints_2d": "2D joints",
    "train/loss_vertices": "vertices",
}
_ERRORS = {"pa_mpjpe_mm": "PA-MPJPE", "mpjpe_mm": "MPJPE", "mpve_mm": "MPVE"}


def draw_curves(rows: Sequence[CsvRow], baseline: Mapping[str, float | None], path: Path) -> Path:
    """Draw the rows of a run.

    Args:
        rows: Of `Recorder.rows`.
        baseline: Metrics of the mean mesh, `baseline/mpjpe_mm` and so on; dashed lines.
        path: PNG to write.

    Returns:
        `path`.

    Raises:
        TrainingError: There is nothing to draw, or matplotlib is not installed.
    """
    if not rows:
        raise TrainingError("nothing was recorded")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TrainingError(
            "matplotlib is not installed; pip install 'metro-ray[plots]'"
        ) from error
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    _draw_losses(axes[0, 0], rows)
    _draw_errors(axes[0, 1], rows, baseline)
    _draw_rate(axes[1, 0], rows)
    _draw_time(axes[1, 1], rows)
    for axis in axes.flat:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_bytes(path, content.getvalue())
    return path


def _series(rows: Sequence[CsvRow], name: str) -> tuple[list[int], list[float]]:
    points = [(int(row["step"]), float(row[name])) for row in rows if name in row]
    return [step for step, _ in points], [value for _, value in points]


def _draw_losses(axis: Any, rows: Sequence[CsvRow]) -> None:
    axis.set_title("training losses (3D joints m2, vertices m, 2D crop units2)")
    for name, label in _LOSSES.items():
        steps, values = _series(rows, name)
        if any(value > 0 for value in values):
            axis.plot(steps, values, marker=".", label=label)
            axis.set_yscale("log")
    _legend(axis)


def _draw_errors(axis: Any, rows: Sequence[CsvRow], baseline: Mapping[str, float | None]) -> None:
    axis.set_title("validation error, mm (dashed: mean mesh of the training set)")
    for number, (name, label) in enumerate(_ERRORS.items()):
        steps, values = _series(rows, f"val/{name}")
        if steps:
            axis.plot(steps, values, marker="o", color=f"C{number}", label=label)
        level = baseline.get(f"baseline/{name}")
        if level is not None:
            axis.axhline(level, color=f"C{number}", linestyle="--")
    axis.set_ylim(bottom=0)
    _legend(axis)


def _draw_rate(axis: Any, rows: Sequence[CsvRow]) -> None:
    axis.set_title("learning rate")
    axis.plot(*_series(rows, "train/lr"), drawstyle="steps-pre")
    axis.set_ylim(bottom=0)


def _draw_time(axis: Any, rows: Sequence[CsvRow]) -> None:
    axis.set_title("speed")
    axis.plot(*_series(rows, "train/images_per_second"), marker=".", color="C0")
    axis.set_ylabel("images/s", color="C0")
    axis.set_ylim(bottom=0)
    share = axis.twinx()
    for name, style in (("data_wait_share", "-"), ("data_wait_share_max", ":")):
        steps, values = _series(rows, f"train/{name}")
        percent = [100 * value for value in values]
        share.plot(steps, percent, linestyle=style, marker=".", color="C1")
    share.set_ylabel("% of the time waiting for data (dotted: slowest rank)", color="C1")
    share.set_ylim(0, 100)


def _legend(axis: Any) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend()
