"""A prediction job's meshes measured against the labels of its data set, where it has any."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from metro_ray.data.sample import Batch, collate
from metro_ray.evaluation.evaluate import RootRelative, measure, root_relative
from metro_ray.training.data_source import label_sample

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.data.rows import RowDataset
    from metro_ray.evaluation.prediction_files import PredictedRows, PredictionWork
    from metro_ray.evaluation.result import EvaluationResult

_BATCH_ROWS = 64


def measure_predictions(
    work: PredictionWork, dataset: RowDataset, body: BodyModel
) -> EvaluationResult | None:
    """Errors of finished predictions, by the evaluation that measures everything else.

    Joints are regressed from the predicted mesh and both are made relative to its root, so it does
    not matter whether the predictions were written with their root.

    Args:
        work: with every row predicted.
        dataset: that was predicted.
        body: of the predicted mesh, on the CPU.

    Returns:
        None where no row is labelled with a mesh or 3D joints.

    Raises:
        DataError: rows are not predicted, or a label cannot be read.
    """
    waiting: list[PredictedRows] = []

    def batches() -> Iterator[Batch]:
        for run in work.runs():
            for start in range(0, len(run.rows), _BATCH_ROWS):
                chunk = slice(start, start + _BATCH_ROWS)
                part = run._replace(
                    rows=run.rows[chunk],
                    keys=run.keys[chunk],
                    joints=run.joints[chunk],
                    vertices=run.vertices[chunk],
                )
                waiting.append(part)
                samples = [
                    label_sample(dataset.row(row), row, body.spec) for row in part.rows.tolist()
                ]
                yield collate(samples)._replace(keys=tuple(part.keys))

    def predict(_: Batch) -> RootRelative:
        return root_relative(torch.from_numpy(waiting.pop().vertices).float(), body)

    result = measure(predict, body, batches(), "cpu", split="val")
    errors = (result.figures.means[name] for name in ("pa_mpjpe_mm", "pa_mpve_mm"))
    return None if all(math.isnan(error) for error in errors) else result
