"""FreiHAND scores as the official script prints and writes them; its PCK curves as a picture."""

from __future__ import annotations

import io
import json
from pathlib import Path

from metro_ray.errors import ConfigError
from metro_ray.evaluation.freihand import (
    F_THRESHOLDS_M,
    PCK_THRESHOLDS_M,
    FreihandScores,
    PointScores,
)
from metro_ray.training.files import write_bytes, write_json

SCORES_TEXT, SCORES_JSON, CURVES_JSON, CURVES_PICTURE = (
    "scores.txt",
    "scores.json",
    "pck_data.json",
    "pck.png",
)
_NO_CURVE = [[0.0, 100.0], [-1.0, -1.0]]


def console_text(scores: FreihandScores) -> str:
    """The official console output, as METRO's documentation shows it; means in centimetres."""
    lines = _block("3D KP", scores.joints, scores.joints_aligned)
    if scores.vertices and scores.vertices_aligned:
        lines += _block("3D MESH", scores.vertices, scores.vertices_aligned)
    lines.append("F-scores")
    for threshold, plain, aligned in zip(
        F_THRESHOLDS_M, scores.f_scores, scores.f_scores_aligned, strict=True
    ):
        at = f"@{1000 * threshold:.1f}mm"
        lines.append(f"F{at} = {plain:.3f} \tF_aligned{at} = {aligned:.3f}")
    return "\n".join(lines)


def scores_text(scores: FreihandScores) -> str:
    """The official `scores.txt`: `key: value` with six decimals, a figure a line."""
    return "".join(f"{name}: {value:f}\n" for name, value in scores.figures().items())


def curves(scores: FreihandScores) -> dict[str, list[list[float]]]:
    """The official `pck_data.json`: [thresholds in cm, shares] by name; [-1, -1] if none."""
    points = {
        "xyz": scores.joints,
        "xyz_al": scores.joints_aligned,
        "mesh": scores.vertices,
        "mesh_al": scores.vertices_aligned,
    }
    centimetres = (100.0 * PCK_THRESHOLDS_M).tolist()
    return {
        name: [centimetres, one.pck.tolist()] if one else _NO_CURVE for name, one in points.items()
    }


def write_report(scores: FreihandScores, folder: Path) -> list[Path]:
    """Write scores.txt, scores.json (same figures, all digits), pck_data.json and pck.png.

    Returns:
        The files.

    Raises:
        ConfigError: matplotlib is not installed; the other files are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / SCORES_TEXT, scores_text(scores).encode())
    write_json(folder / SCORES_JSON, scores.figures())
    write_bytes(folder / CURVES_JSON, json.dumps(curves(scores)).encode())
    draw_curves(scores, folder / CURVES_PICTURE)
    return [folder / name for name in (SCORES_TEXT, SCORES_JSON, CURVES_JSON, CURVES_PICTURE)]


def draw_curves(scores: FreihandScores, path: Path) -> Path:
    """Draw the PCK curves of joints and, where they correspond, vertices.

    Returns:
        `path`.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f"matplotlib is not installed, so {path.name} cannot be drawn; "
            "pip install 'metro-ray[plots]'"
        ) from error
    panels = {"keypoints": (scores.joints, scores.joints_aligned)}
    if scores.vertices and scores.vertices_aligned:
        panels["mesh vertices"] = (scores.vertices, scores.vertices_aligned)
    figure = Figure(figsize=(5.5 * len(panels), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (title, pair) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for label, one in zip(("as predicted", "aligned"), pair, strict=True):
            axis.plot(1000 * PCK_THRESHOLDS_M, one.pck, label=f"{label} (AUC {one.auc:.3f})")
        axis.set_title(f"FreiHAND {title}, {scores.num_samples} samples")
        axis.set_xlabel("error threshold, mm")
        axis.set_ylabel(f"share of {title} within it")
        axis.set_xlim(0, 1000 * PCK_THRESHOLDS_M[-1])
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_bytes(path, content.getvalue())
    return path


def _block(name: str, plain: PointScores, aligned: PointScores) -> list[str]:
    lines = []
    for title, one in ((name, plain), (f"{name} ALIGNED", aligned)):
        lines.append(f"Evaluation {title} results:")
        lines.append(f"auc={one.auc:.3f}, mean_kp3d_avg={100 * one.mean_m:.2f} cm")
    return [*lines, ""]
