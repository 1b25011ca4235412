"""METRO's networks and their weights."""

from metro_ray.models.metro import MeshPrediction, Metro, build_metro

__all__ = ["MeshPrediction", "Metro", "build_metro"]
