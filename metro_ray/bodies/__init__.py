"""What is reconstructed: mesh specs, joint sets and the body models behind one call.

The models need torch, the specs do not: a data task that reads rows imports no torch through here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metro_ray.bodies.assets import AssetStatus, asset_report, find_asset
from metro_ray.bodies.joints import J14, J17, J21, J24, JointSet
from metro_ray.bodies.spec import SPECS, MeshSpec, get_spec

if TYPE_CHECKING:
    from metro_ray.bodies.body import BodyModel, BodyOutput
    from metro_ray.bodies.catalog import BodyStatus, available_bodies, load_body, resolve_mesh

__all__ = [
    "J14",
    "J17",
    "J21",
    "J24",
    "SPECS",
    "AssetStatus",
    "BodyModel",
    "BodyOutput",
    "BodyStatus",
    "JointSet",
    "MeshSpec",
    "asset_report",
    "available_bodies",
    "find_asset",
    "get_spec",
    "load_body",
    "resolve_mesh",
]

_WITH_TORCH = {
    "BodyModel": "metro_ray.bodies.body",
    "BodyOutput": "metro_ray.bodies.body",
    "BodyStatus": "metro_ray.bodies.catalog",
    "available_bodies": "metro_ray.bodies.catalog",
    "load_body": "metro_ray.bodies.catalog",
    "resolve_mesh": "metro_ray.bodies.catalog",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WITH_TORCH[name]), name)
