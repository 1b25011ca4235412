"""What is reconstructed: mesh specs, joint sets and the body models behind one call."""

from metro_ray.bodies.assets import AssetStatus, asset_report, find_asset
from metro_ray.bodies.body import BodyModel, BodyOutput
from metro_ray.bodies.catalog import BodyStatus, available_bodies, load_body, resolve_mesh
from metro_ray.bodies.joints import J14, J17, J21, J24, JointSet
from metro_ray.bodies.spec import SPECS, MeshSpec, get_spec

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
