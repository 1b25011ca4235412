"""Raw data sets: what their publishers distribute, read row by row as METRO's label records.

    dataset = open_raw("3dpw", "3DPW/", split="train")
    convert(dataset, "3dpw/train.parquet")

`docs/datasets.md` shows where to register for each, the folder that is expected, and which labels
come out. Nothing of a data set is bundled or downloaded.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metro_ray.errors import ConfigError

if TYPE_CHECKING:
    from metro_ray.data.raw.raw_dataset import RawDataset

__all__ = ["RAW", "RawInfo", "open_raw"]


class RawInfo(NamedTuple):
    """One raw data set, before it is opened."""

    help: str
    """What it is, in a line."""
    splits: tuple[str, ...]
    spec: str
    """Body model that its labels are for."""
    opener: str
    """`module:function` in this package; imported when it is used."""


RAW: dict[str, RawInfo] = {
    "freihand": RawInfo(
        "hands; FreiHAND as published, or with Pose2Mesh's JSON files as METRO did",
        ("train", "test"),
        "mano",
        "freihand:open_freihand",
    ),
    "3dpw": RawInfo(
        "bodies outdoors; Pose2Mesh's JSON files, or 3DPW's own sequenceFiles",
        ("train", "validation", "test"),
        "smpl",
        "threedpw:open_3dpw",
    ),
    "human36m": RawInfo(
        "bodies in the studio; GraphCMR's npz files with Pose2Mesh's JSON files",
        ("train", "valid"),
        "smpl",
        "human36m:open_human36m",
    ),
    "up3d": RawInfo(
        "bodies in photos with SMPL fits; UP-3D as published",
        ("trainval", "train", "val", "test"),
        "smpl",
        "up3d:open_up3d",
    ),
    "coco": RawInfo(
        "bodies in photos, 2D keypoints, SMPL fits (EFT, Pose2Mesh, SPIN's npz) where there are",
        ("train2014", "val2014", "train2017", "val2017"),
        "smpl",
        "coco:open_coco",
    ),
    "muco": RawInfo(
        "composed bodies, MuCo-3DHP in COCO form with Pose2Mesh's SMPL fits",
        ("train",),
        "smpl",
        "muco:open_muco",
    ),
    "mpii": RawInfo(
        "bodies in photos, 2D keypoints; JSON of the pose estimation baselines, or SPIN's npz",
        ("train", "valid"),
        "smpl",
        "mpii:open_mpii",
    ),
}
"""Every raw data set by name."""


def open_raw(name: str, folder: str | Path, *, split: str, **options: Any) -> RawDataset:
    """Open a raw data set; reads its annotations, and pictures only when a row is asked for.

    Args:
        name: one of `RAW`.
        folder: where it lies, a path or a URL; `docs/datasets.md` shows what is in it.
        split: one of the data set's `splits`.
        options: `images` ("original": the files' own bytes, "metro": encoded again as METRO does)
            and what else the data set's opener takes (`assets_root`, `layout`, `fits`, ...).

    Raises:
        ConfigError: no such data set, split or option.
        DataError: a file is missing (says where it comes from and where it should lie) or broken.
        AssetNotFoundError: a body model that the labels need is missing.
    """
    if name not in RAW:
        known = "\n".join(f"  {known}: {info.help}" for known, info in RAW.items())
        raise ConfigError(f"unknown raw data set {name!r}; choose one of:\n{known}")
    info = RAW[name]
    if split not in info.splits:
        raise ConfigError(
            f"raw data set {name} has no split {split!r}; choose one of: {', '.join(info.splits)}"
        )
    module, function = info.opener.split(":")
    opener = getattr(import_module(f"{__name__}.{module}"), function)
    parameters = inspect.signature(opener).parameters.values()
    known = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"raw data set {name} has no option {option!r}; it has: {', '.join(known)}"
            )
    return opener(folder, split, **options)
