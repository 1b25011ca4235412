"""The one evaluation loop, the mean-mesh baseline it is compared with, and what they report."""

from metro_ray.evaluation.baseline import MeanMesh, evaluate_baseline, mean_mesh
from metro_ray.evaluation.evaluate import evaluate
from metro_ray.evaluation.result import EvaluationResult, EvaluationTable, metro_line

__all__ = [
    "EvaluationResult",
    "EvaluationTable",
    "MeanMesh",
    "evaluate",
    "evaluate_baseline",
    "mean_mesh",
    "metro_line",
]
