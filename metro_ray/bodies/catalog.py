"""Body models by name: which can be used here, which one `auto` means, and loading them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metro_ray.bodies.assets import ASSETS, anny_status, assets_folder
from metro_ray.bodies.body import BodyModel
from metro_ray.bodies.spec import SPECS, get_spec
from metro_ray.errors import ConfigError

_LICENSED = {"body": "smpl", "hand": "mano"}
_OPEN = {"body": "anny_body", "hand": "anny_hand"}


@dataclass(frozen=True, kw_only=True, slots=True)
class BodyStatus:
    """Whether a body model can be used."""

    name: str
    present: bool
    missing: tuple[str, ...]
    """Files or packages that it still needs."""


def available_bodies(assets_root: str | Path | None = None) -> dict[str, BodyStatus]:
    """Every body model by name, and what it lacks."""
    folder = assets_folder(assets_root)
    missing = {
        name: tuple(
            asset.name
            for asset in ASSETS
            if name in asset.bodies and not (folder / asset.name).is_file()
        )
        for name in SPECS
    }
    if not anny_status().present:
        missing |= dict.fromkeys(_OPEN.values(), ("Python package 'anny'",))
    return {
        name: BodyStatus(name=name, present=not lacks, missing=lacks)
        for name, lacks in missing.items()
    }


def resolve_mesh(
    kind: Literal["body", "hand"], requested: str, assets_root: str | Path | None = None
) -> tuple[str, str]:
    """The body model to use, and why, for the setting `model.mesh`.

    Args:
        kind: what is reconstructed.
        requested: a body model, or `auto`: SMPL or MANO where their files are, else the open one.
        assets_root: folder of the model files; see `assets.assets_folder`.

    Raises:
        ConfigError: the requested body model is of the other kind or unknown.
    """
    if requested != "auto":
        if get_spec(requested).kind != kind:
            fitting = ", ".join(name for name, spec in SPECS.items() if spec.kind == kind)
            raise ConfigError(f"model.mesh {requested} is not a {kind}; choose one of: {fitting}")
        return requested, f"{requested}: as requested"
    licensed = available_bodies(assets_root)[_LICENSED[kind]]
    if licensed.present:
        return licensed.name, f"{licensed.name}: its files are in {assets_folder(assets_root)}"
    chosen = _OPEN[kind]
    return chosen, (
        f"{chosen}: the open model, because {licensed.name} lacks {', '.join(licensed.missing)} in "
        f"{assets_folder(assets_root)}"
    )


def load_body(name: str, assets_root: str | Path | None = None) -> BodyModel:
    """A body model by name, float32, on the CPU; a new object at each call.

    Raises:
        ConfigError: no body model has this name.
        AssetNotFoundError: a file or package it needs is missing.
        AssetError: a file has the wrong or unsafe content.
    """
    get_spec(name)
    if name == "anny_body" or name == "anny_hand":
        from metro_ray.bodies.anny import AnnyModel

        return AnnyModel(name)
    from metro_ray.bodies.mano import load_mano
    from metro_ray.bodies.smpl import load_smpl

    return load_smpl(assets_root) if name == "smpl" else load_mano(assets_root)
