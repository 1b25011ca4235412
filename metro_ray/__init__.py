"""METRO human body and hand mesh reconstruction as a platform on Ray.

Importing this package imports neither torch nor ray; each room is imported where it is used.
"""

from metro_ray.version import __version__

__all__ = ["__version__"]
