"""The figures of a prediction job whose data set is labelled: a file of results, and its page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from metro_ray.errors import DataError
from metro_ray.evaluation.per_sample import describe_result, read_per_sample, write_per_sample
from metro_ray.evaluation.prediction_scores import measure_predictions
from metro_ray.evaluation.result import EvaluationResult
from metro_ray.inference.report import write_report

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.config.schema import TrainConfig
    from metro_ray.data.rows import RowDataset
    from metro_ray.evaluation.per_sample import PerSample
    from metro_ray.evaluation.prediction_files import PredictionWork

FILE = "report.html"


class Scored(NamedTuple):
    """What a labelled data set says about its predictions."""

    result: EvaluationResult
    results_file: Path
    """Parquet, a row a sample."""
    page: Path


def score_predictions(
    work: PredictionWork,
    dataset: RowDataset,
    body: BodyModel,
    config: TrainConfig,
    output: Path,
    counterpart: Path,
) -> Scored | None:
    """Measure finished predictions; write the results and a page beside the prediction file.

    Args:
        work: with every row predicted.
        dataset: that was predicted.
        body: of the predicted mesh, on the CPU.
        config: of the job.
        output: the prediction file; the results are named after it.
        counterpart: prediction file of one view where `output` fuses several, and the reverse; if
            results of the same network lie beside it, the page shows both.

    Returns:
        None where no row is labelled.

    Raises:
        DataError: a label cannot be read.
    """
    result = measure_predictions(work, dataset, body)
    if result is None:
        return None
    meta = describe_result(
        config, body.spec, result, epoch=0, world_size=1, device=torch.device("cpu")
    )
    results_file = output.with_suffix(".parquet")
    write_per_sample(results_file, result.table, {**meta, "weights": work.weights})
    sample = read_per_sample(results_file)
    other = _same_network(counterpart.with_suffix(".parquet"), work.weights)
    plain, augmented = sample, other
    if config.eval.multiscale and other is not None:
        plain, augmented = other, sample
    page = write_report(
        output.with_name(FILE),
        plain,
        title=f"{output.parent.name}: predictions for {dataset.name}",
        augmented=augmented,
        notes=[f"Predictions of {plain.path.stem}, measured against the labels of the data set."],
    )
    return Scored(result, results_file, page)


def _same_network(path: Path, weights: str) -> PerSample | None:
    """Results that lie beside, if the same weights made them."""
    try:
        found = read_per_sample(path)
    except DataError:
        return None
    return found if found.meta.get("weights") == weights else None
