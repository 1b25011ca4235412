"""Files of raw data sets: annotations and pictures, with words for what is missing."""

from __future__ import annotations

import io
import json
import logging
import math
import zipfile
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np

from metro_ray.data.storage import exists, is_url, read_bytes
from metro_ray.data.transform import decode_image
from metro_ray.errors import ConfigError, DataError

_LOG = logging.getLogger(__name__)

Images = Literal["original", "metro"]
"""The files' own bytes, or decoded and encoded again as METRO's converters do."""

_DOCS = "docs/datasets.md shows the whole folder"
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"


def require(path: Path, how: str) -> Path:
    """The path of a file that must be there.

    Raises:
        DataError: it is not; `how` says where it comes from.
    """
    if not exists(path):
        raise DataError(f"{path} does not exist. {how}. {_DOCS}")
    return path


def read_file(path: Path, how: str) -> bytes:
    """A whole file; errors as in `require`."""
    return read_bytes(require(path, how))


def read_json(path: Path, how: str) -> Any:
    """A JSON file.

    Raises:
        DataError: it is missing or cut.
    """
    _LOG.info("reading %s", path)
    try:
        return json.loads(read_file(path, how))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); it is cut, copy it again") from error


def read_npz(
    path: Path, how: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file, equally long; objects (pickles) in it are refused.

    Raises:
        DataError: it is missing or broken, or lacks an array.
    """
    content = read_file(path, how)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            lacks = [name for name in required if name not in archive]
            if lacks:
                raise DataError(
                    f"{path} lacks {', '.join(lacks)}; it has: {', '.join(archive.files)}. {how}"
                )
            names = (*required, *(name for name in optional if name in archive))
            arrays = {name: archive[name] for name in names}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as npz: {error}") from error
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"{path}: its arrays should be equally long, got {counts}")
    return arrays


def text_of(names: np.ndarray) -> list[str]:
    """Strings of an array of bytes (GraphCMR's files) or of text (SPIN's)."""
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in names]


def numbers(value: object, shape: tuple[int, ...], what: str) -> np.ndarray:
    """Numbers of an annotation as float64 of a shape, however they were nested.

    Raises:
        DataError: other numbers than expected; `what` names them.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} should be numbers of shape {shape}: {error}") from error
    if array.size != math.prod(shape):
        raise DataError(f"{what} should be numbers of shape {shape}, got {array.shape}")
    return array.reshape(shape)


def project(points: np.ndarray, focal: np.ndarray, princpt: np.ndarray) -> np.ndarray:
    """Pinhole projection: points (N, 3) in the camera frame -> pixels (N, 2).

    Args:
        points: camera axes, x right, y down, z away.
        focal: focal lengths (2,), pixels.
        princpt: principal point (2,), pixels.
    """
    return points[:, :2] / points[:, 2:] * focal + princpt


class ImageFolder:
    """Pictures below a folder, as stored or as METRO stores them."""

    def __init__(self, folder: Path, images: Images, how: str) -> None:
        """Look at the folder.

        Raises:
            ConfigError: `images` is no known choice.
            DataError: the folder is not there; `how` says where it comes from.
        """
        if images not in get_args(Images):
            raise ConfigError(f"images must be one of {get_args(Images)}, got {images!r}")
        self.remote = is_url(folder)
        if not self.remote and not folder.is_dir():
            raise DataError(f"folder {folder} does not exist. {how}. {_DOCS}")
        self.folder = folder
        self.images: Images = images

    def read(self, name: str) -> tuple[bytes, tuple[int, int] | None]:
        """Encoded picture, and (height, width) where it had to be decoded anyway.

        "metro" gives what METRO's `cv2.imencode('.jpg', cv2.imread(path))` gives: JPEG of OpenCV's
        default quality (95), EXIF orientation applied, grey made colour.

        Raises:
            DataError: the file is missing, or no whole picture.
        """
        path = self.folder / name
        if not exists(path):
            raise DataError(f"picture {path} does not exist")
        data = read_bytes(path)
        if self.images == "original":
            if not data.startswith((_JPEG, _PNG)):
                raise DataError(
                    f"{path} is neither JPEG nor PNG and cannot be stored as it is; "
                    "images='metro' encodes it again"
                )
            return data, None
        try:
            image = decode_image(data)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        return cv2.imencode(".jpg", image)[1].tobytes(), (image.shape[0], image.shape[1])
