"""How far predictions are from the truth, per sample in metres, and means that merge."""

from metro_ray.metrics.accumulate import MeanMeter, all_reduce_with, merge_all, weighted_mean
from metro_ray.metrics.errors import mean_distance, mpjpe, mpve, pa_mpjpe, pa_mpve

__all__ = [
    "MeanMeter",
    "all_reduce_with",
    "mean_distance",
    "merge_all",
    "mpjpe",
    "mpve",
    "pa_mpjpe",
    "pa_mpve",
    "weighted_mean",
]
