"""What rank 0 does when the last step is done: baseline, gallery, report and `result.json`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_ray.errors import MetroRayError
from metro_ray.evaluation import evaluate_baseline, mean_mesh
from metro_ray.evaluation.per_sample import epoch_file, read_per_sample
from metro_ray.inference.report import write_report
from metro_ray.training.checkpoint import load_checkpoint
from metro_ray.training.data_source import label_batches, open_split
from metro_ray.training.files import null_for_nan, write_json
from metro_ray.training.pictures import render_gallery
from metro_ray.training.ranked import ranked_pictures
from metro_ray.training.report import FILE, write_run_report
from metro_ray.training.system import code_state, describe_hardware, versions

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.inference.report_rows import Pictures
    from metro_ray.models import Metro
    from metro_ray.training.summary import RunSummary

_LOG = logging.getLogger(__name__)
_ERRORS = ("pa_mpjpe_mm", "mpjpe_mm", "mpve_mm")
_SPEED = (
    "train/images_per_second",
    "train/data_wait_seconds",
    "train/data_wait_seconds_max",
    "train/data_wait_share",
    "train/data_wait_share_max",
    "train/data_wait_max_rank",
    "train/max_memory_mib",
)
"""Of the whole run: means over the ranks, and the rank that waited most for data."""
_BASELINE_ROWS = 20_000
"""Training rows that the mean mesh is made of at most; its standard error is then below 1 mm."""


def finish_run(summary: RunSummary, model: Metro, body: BodyModel) -> dict[str, Any]:
    """Write everything that needs the finished model; `result.json` first and again at the end.

    After a training the model is given the weights of the best checkpoint, and `val/*` are its
    numbers. What does not exist is null, with the reason under `reasons`.

    Returns:
        What `result.json` holds.
    """
    reasons: dict[str, str] = {}
    checkpoint, metrics, chosen = _chosen_checkpoint(summary, model)
    if checkpoint is None:
        reasons["checkpoint"] = "the run only evaluated"
    baseline = _baseline(summary, body, reasons)
    numbers: dict[str, Any] = {
        **{f"val/{name}": metrics.get(f"val/{name}") for name in _ERRORS},
        **{f"baseline/{name}": baseline.get(f"baseline/{name}") for name in _ERRORS},
        **{name: summary.trained.get(name) for name in _SPEED},
        "sources": _by_source(summary),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        **chosen,
        "last": summary.metrics,
        "gallery": None,
        "report": None,
        "kind": summary.config.kind,
        "epochs": summary.epochs,
        "steps": summary.steps,
        "seconds": round(summary.seconds, 3),
        "bad_rows": summary.bad_rows,
        "mesh": {"name": body.spec.name, "reason": summary.mesh_reason},
        "world_size": summary.world_size,
        "starts": [asdict(start) for start in summary.starts],
        "hardware": describe_hardware(summary.device),
        "versions": versions(),
        "code": code_state(),
        "val/num_rows": metrics.get("val/num_rows"),
    }
    result: dict[str, Any] = {**null_for_nan(numbers), "reasons": reasons}
    _explain_missing(result, metrics, reasons)
    path = summary.run_dir / "result.json"
    summary.run_dir.mkdir(parents=True, exist_ok=True)
    reasons |= dict.fromkeys(("gallery", "report"), "not drawn yet")
    write_json(path, result)
    _draw(summary, model, body, baseline, result)
    write_json(path, result)
    return result


def _by_source(summary: RunSummary) -> dict[str, dict[str, float]]:
    """Rows and mean losses of each source over the run."""
    sources: dict[str, dict[str, float]] = {}
    for name in summary.source_names:
        prefix = f"train/source/{name}/"
        found = {key: value for key, value in summary.trained.items() if key.startswith(prefix)}
        sources[name] = {key.removeprefix(prefix): value for key, value in found.items()}
    return sources


def _chosen_checkpoint(
    summary: RunSummary, model: Metro
) -> tuple[Path | None, Mapping[str, float | None], dict[str, Any]]:
    """Best checkpoint, else the last; its metrics; where in the run it is from."""
    if summary.config.eval.only:
        return None, summary.metrics, {}
    checkpoints = summary.run_dir / "checkpoints"
    link = checkpoints / "best"
    if not link.is_dir():
        link = checkpoints / "last"
    meta = load_checkpoint(link, model)
    where = {"checkpoint_epoch": meta.epoch, "checkpoint_step": meta.step}
    return link.absolute(), meta.metrics, where


def _baseline(summary: RunSummary, body: BodyModel, reasons: dict[str, str]) -> Mapping[str, float]:
    """Metrics of predicting the training set's mean mesh for every validation row."""
    config, spec = summary.config, body.spec
    reason = None
    try:
        train, val = open_split(config, spec, "train"), open_split(config, spec, "val")
        if train is None or val is None:
            reason = f"data.{'train' if train is None else 'val'}_yaml is not given"
        else:
            rows = label_batches(train, spec, max_rows=_BASELINE_ROWS)
            mean = mean_mesh(rows, body, summary.device)
            return evaluate_baseline(mean, body, label_batches(val, spec), summary.device).metrics
    except MetroRayError as error:
        reason = str(error)
    reasons.update({f"baseline/{name}": reason for name in _ERRORS})
    return {}


def _explain_missing(
    result: Mapping[str, Any], metrics: Mapping[str, float | None], reasons: dict[str, str]
) -> None:
    """Give each null among the numbers its reason."""
    labels = {"mpve_mm": f"a mesh of {result['mesh']['name']}"}
    for name in _ERRORS:
        for split in ("val", "baseline"):
            if result[f"{split}/{name}"] is not None:
                continue
            reasons.setdefault(
                f"{split}/{name}",
                f"no validation row is labelled with {labels.get(name, '3D joints')}"
                if split == "baseline" or metrics
                else "no validation rows: data.val_yaml is not given or has no readable row",
            )
    for name in _SPEED:
        if result[name] is None:
            reasons[name] = "no training step was made"


def _draw(
    summary: RunSummary,
    model: Metro,
    body: BodyModel,
    baseline: Mapping[str, float],
    result: dict[str, Any],
) -> None:
    """Write gallery and report; one that cannot be written does not cost the run."""
    numbers = {name: value for name, value in result.items() if name.startswith("val/")}
    metrics = {name: value for name, value in {**numbers, **baseline}.items() if _exists(value)}

    def draw_gallery() -> Path:
        return render_gallery(summary.config, summary.run_dir, model, body, metrics=metrics)

    def draw_report() -> Path:
        pictures = None
        try:
            pictures = ranked_pictures(summary, result.get("checkpoint_epoch", 0), model, body)
        except MetroRayError as error:
            _LOG.warning("no ranked rows in the report: %s", error)
        if summary.config.eval.only:
            return write_evaluation_report(summary, baseline, pictures)
        return write_run_report(summary, body.spec, result, pictures)

    drawings = {
        "gallery": draw_gallery,
        "report": draw_report,
    }
    for name, draw in drawings.items():
        try:
            result[name] = str(draw().absolute())
            del result["reasons"][name]
        except MetroRayError as error:
            result["reasons"][name] = str(error)
            _LOG.warning("no %s: %s", name, error)


def write_evaluation_report(
    summary: RunSummary, baseline: Mapping[str, float], pictures: Pictures | None
) -> Path:
    """Write the page of a run that only evaluated.

    Args:
        summary: Of the run.
        baseline: `baseline/..` figures of the mean mesh; empty without them.
        pictures: Rows to look at.

    Raises:
        DataError: There was nothing to evaluate.
    """
    config, folder = summary.config, summary.run_dir
    count = summary.bad_rows["count"]
    return write_report(
        folder / FILE,
        read_per_sample(epoch_file(folder, 0)),
        title=f"{folder.name}: METRO {config.kind}, {config.model.arch}, evaluated",
        baseline={name.removeprefix("baseline/"): value for name, value in baseline.items()},
        pictures=pictures,
        notes=[
            f"Weights: {config.run.resume_checkpoint or 'none, as a run starts'}.",
            *([f"{count} rows could not be read; result.json lists them."] if count else []),
        ],
    )


def _exists(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
