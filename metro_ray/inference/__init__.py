"""From pictures to meshes, and meshes to look at: predictor, rendering, export, gallery."""

from metro_ray.inference.predictor import Predictor, read_image
from metro_ray.inference.result import MeshResult

__all__ = ["MeshResult", "Predictor", "read_image"]
