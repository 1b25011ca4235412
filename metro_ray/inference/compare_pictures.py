"""Rows that changed most between two evaluations: what both networks make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metro_ray.bodies import load_body
from metro_ray.errors import DataError
from metro_ray.evaluation.figures import TITLES
from metro_ray.evaluation.from_checkpoint import config_of_checkpoint
from metro_ray.evaluation.per_sample import FOLDER
from metro_ray.inference.render import draw_joints, error_view, overlay
from metro_ray.inference.report_rows import ErrorPicture, Pictures, color_limit_mm
from metro_ray.inference.result import close_up
from metro_ray.models.weights_io import load_weights
from metro_ray.training.builders import build_model
from metro_ray.training.data_source import open_split
from metro_ray.training.pictures import predict_rows

if TYPE_CHECKING:
    from metro_ray.evaluation.comparison import Comparison, RowChange
    from metro_ray.evaluation.per_sample import PerSample
    from metro_ray.inference.gallery import GalleryItem

_PANEL_PX = 224


def changed_pictures(comparison: Comparison, num_rows: int) -> Pictures:
    """Predict the rows that changed most with both networks.

    Args:
        comparison: of two evaluations, whose settings name data and checkpoints.
        num_rows: most rows that improved, and most that worsened.

    Raises:
        DataError: The data, or a checkpoint's place, are not known here.
        MetroRayError: They cannot be read.
    """
    groups = {
        "improved": comparison.improved[:num_rows],
        "worsened": comparison.worsened[:num_rows],
    }
    row_ids = [row.row_id for rows in groups.values() for row in rows]
    both = [_items(sample, row_ids) for sample in (comparison.a, comparison.b)]
    shown = [
        (group, row)
        for group, rows in groups.items()
        for row in rows
        if all(row.row_id in items for items in both)
    ]
    if not shown:
        raise DataError("none of the rows that changed can be read")
    known = [items[row.row_id].vertex_errors_mm for _, row in shown for items in both]
    most = color_limit_mm([errors for errors in known if errors is not None])
    title = TITLES[f"{comparison.ranked_by}_mm"][0]
    return Pictures(
        items=[
            _picture(group, row, title, [items[row.row_id] for items in both], most)
            for group, row in shown
        ],
        most_mm=most,
        ranked_by=f"the difference of their {title}",
    )


def checkpoint_of(sample: PerSample) -> Path:
    """The weights that an evaluation measured.

    Raises:
        DataError: they are not where the run left them.
    """
    run_dir = sample.path.parent.parent if sample.path.parent.name == FOLDER else None
    named = sample.meta.get("config", {}).get("run", {}).get("resume_checkpoint")
    only = sample.meta.get("config", {}).get("eval", {}).get("only")
    places = [Path(named)] if named and (only or run_dir is None) else []
    if run_dir is not None and not only:
        places.append(run_dir / "checkpoints" / "best")
    for place in places:
        if place.exists():
            return place
    where = ", ".join(map(str, places)) or "no place is recorded"
    raise DataError(f"the checkpoint of {sample.path} is not there ({where})")


def _items(sample: PerSample, row_ids: Sequence[int]) -> Mapping[int, GalleryItem]:
    settings = sample.meta["config"]
    given = {
        "run.resume_checkpoint": str(checkpoint_of(sample)),
        "data.val_yaml": settings["data"]["val_yaml"],
        "data.root": settings["data"]["root"],
        "assets.root": settings["assets"]["root"],
    }
    config = config_of_checkpoint(sample.meta["kind"], given).config
    body = load_body(config.model.mesh, config.assets.root)
    dataset = open_split(config, body.spec, "val")
    if dataset is None:
        raise DataError(f"{sample.path} does not name its data set")
    model = build_model(config, body)
    load_weights(model, Path(given["run.resume_checkpoint"]))
    return predict_rows(config, dataset, row_ids, model.eval(), body)


def _picture(
    group: str, row: RowChange, title: str, items: Sequence[GalleryItem], most_mm: float
) -> ErrorPicture:
    cuts = [close_up(item.image, item.result, _PANEL_PX) for item in items]
    panels = {"photo": cuts[0][0]}
    errors = [item.vertex_errors_mm for item in items]
    for letter, (cut, inside) in zip("AB", cuts, strict=True):
        panels[letter] = overlay(cut, inside)
    for letter, (cut, inside), error in zip("AB", cuts, errors, strict=True):
        if error is None:
            panels[f"{letter}, joints"] = draw_joints(cut, inside)
        else:
            panels[f"{letter}, error"] = error_view(inside, error, most_mm, _PANEL_PX)
    return ErrorPicture(
        group=group,
        key=row.key,
        errors_mm={f"{title} of A": row.a_mm, f"{title} of B": row.b_mm},
        panels=panels,
    )
