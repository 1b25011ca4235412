"""Validation rows to look at: worst, typical and best ones, each vertex coloured by its error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from metro_ray.evaluation.per_sample import epoch_file, read_per_sample
from metro_ray.inference.render import draw_joints, error_view, overlay
from metro_ray.inference.report_rows import ErrorPicture, Pictures, color_limit_mm
from metro_ray.inference.result import close_up
from metro_ray.training.data_source import open_split
from metro_ray.training.pictures import GalleryItem, predict_rows

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.evaluation.result import EvaluationTable
    from metro_ray.models import Metro
    from metro_ray.training.summary import RunSummary

_PANEL_PX = 256
_EACH = 3


def ranked_pictures(
    summary: RunSummary, epoch: int, model: Metro, body: BodyModel
) -> Pictures | None:
    """Rows of the validation set by the errors that were measured after `epoch`.

    Args:
        summary: Of the run; `eval.gallery_images` 0 leaves the pictures out.
        epoch: Complete epochs when the model's weights were validated; 0 for an evaluation alone.
        model: With those weights.
        body: On the model's device.

    Returns:
        None where there is nothing to show.

    Raises:
        DataError: The validation set or the measured errors cannot be read.
    """
    dataset = open_split(summary.config, body.spec, "val")
    path = epoch_file(summary.run_dir, epoch)
    if dataset is None or not path.is_file() or not summary.config.eval.gallery_images:
        return None
    groups, ranked_by = _choose(read_per_sample(path).table)
    row_ids = [row_id for rows in groups.values() for row_id in rows]
    items = predict_rows(summary.config, dataset, row_ids, model, body)
    errors = {row_id: item.vertex_errors_mm for row_id, item in items.items()}
    most = color_limit_mm([found for found in errors.values() if found is not None])
    pictures = [
        _picture(group, items[row_id], errors[row_id], most)
        for group, rows in groups.items()
        for row_id in rows
        if row_id in items
    ]
    return Pictures(items=pictures, most_mm=most, ranked_by=ranked_by) if pictures else None


def _choose(table: EvaluationTable) -> tuple[dict[str, list[int]], str]:
    """Row numbers of each group, and what they are ranked by; no row is in two groups."""
    by_mesh = bool(table.has_mesh.any())
    errors, has = (table.mpve, table.has_mesh) if by_mesh else (table.pa_mpjpe, table.has_joints_3d)
    rows = np.flatnonzero(has)
    ranked = table.row_id[rows[np.argsort(errors[rows], kind="stable")]].tolist()
    each = min(_EACH, len(ranked) // 3) or min(1, len(ranked))
    start = (len(ranked) - each) // 2
    groups = {"worst": ranked[-each:][::-1] if each else []}
    if len(ranked) >= 3:
        groups |= {"typical": ranked[start : start + each], "best": ranked[:each]}
    return groups, "MPVE" if by_mesh else "PA-MPJPE"


def _picture(
    group: str, item: GalleryItem, errors_mm: np.ndarray | None, most_mm: float
) -> ErrorPicture:
    cut, inside = close_up(item.image, item.result, _PANEL_PX)
    panels = {"photo": cut, "mesh": overlay(cut, inside)}
    if errors_mm is None:
        panels["joints"] = draw_joints(cut, inside)
    else:
        panels["error"] = error_view(inside, errors_mm, most_mm, _PANEL_PX)
        panels["error, side"] = error_view(inside, errors_mm, most_mm, _PANEL_PX, from_side=True)
    return ErrorPicture(group=group, key=item.title, errors_mm=item.errors_mm, panels=panels)
