"""A run's numbers for Prometheus: rank 0 sets gauges, which Ray exports on every node.

Ray puts `ray_` before the names; the tag `run` tells runs apart. `deploy/grafana/metro-ray.json`
draws them.
"""

from __future__ import annotations

from collections.abc import Mapping

GAUGES: dict[str, tuple[str, str]] = {
    "epoch": ("metro_ray_epoch", "Epochs that are complete."),
    "step": ("metro_ray_step", "Steps that are done."),
    "train/loss": ("metro_ray_train_loss", "Loss of the last interval."),
    "train/images_per_second": ("metro_ray_images_per_second", "All ranks together."),
    "train/data_wait_share": (
        "metro_ray_data_wait_share",
        "Share of its time that a rank waits for data, on average.",
    ),
    "train/data_wait_share_max": (
        "metro_ray_data_wait_share_max",
        "The same of the rank that waits most.",
    ),
    "train/max_memory_mib": ("metro_ray_gpu_memory_mib", "Most memory that a rank has used."),
    "val/pa_mpjpe_mm": ("metro_ray_val_pa_mpjpe_mm", "Validation: PA-MPJPE in millimetres."),
    "val/mpjpe_mm": ("metro_ray_val_mpjpe_mm", "Validation: MPJPE in millimetres."),
    "val/mpve_mm": ("metro_ray_val_mpve_mm", "Validation: MPVE in millimetres."),
}
"""Names of reported numbers, and of their gauges with a line of help."""


class RunGauges:
    """The gauges of one run; make it in rank 0.

    Args:
        run: Its name, the last part of the run's folder.
    """

    def __init__(self, run: str) -> None:
        from ray.util.metrics import Gauge

        self._tags = {"run": run}
        self._gauges = {
            key: Gauge(name, description=text, tag_keys=("run",))
            for key, (name, text) in GAUGES.items()
        }

    def set(self, metrics: Mapping[str, float]) -> None:
        """Show those of the numbers that have a gauge."""
        for key, gauge in self._gauges.items():
            if key in metrics:
                gauge.set(metrics[key], tags=self._tags)
