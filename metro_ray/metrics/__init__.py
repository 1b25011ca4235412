"""How far predictions are from the truth: errors of samples in metres, PCK, acceleration."""

from metro_ray.metrics.errors import (
    aligned_distances,
    distances,
    joint_residuals,
    mean_distance,
    mpjpe,
    mpve,
    pa_mpjpe,
    pa_mpve,
)
from metro_ray.metrics.pck import area_under, pck_curve, pck_rule
from metro_ray.metrics.sequences import acceleration_errors

__all__ = [
    "acceleration_errors",
    "aligned_distances",
    "area_under",
    "distances",
    "joint_residuals",
    "mean_distance",
    "mpjpe",
    "mpve",
    "pa_mpjpe",
    "pa_mpve",
    "pck_curve",
    "pck_rule",
]
