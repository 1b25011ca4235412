"""FreiHAND's files: ground truth and predictions in, predictions out.

`evaluation_xyz.json` and `evaluation_verts.json` are lists of N x 21 x 3 and N x 778 x 3 numbers;
`pred.json` is [joints, vertices] of the same shapes, alone or at the root of a zip; all in metres,
samples in the data set's order. All 3960 samples take about 1.5 GB of memory while they are parsed.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Float

from metro_ray.errors import DataError
from metro_ray.evaluation.freihand import Hands
from metro_ray.training.files import fsync_folder

TRUTH_JOINTS, TRUTH_VERTICES = "evaluation_xyz.json", "evaluation_verts.json"
PREDICTION_MEMBER = "pred.json"
NUM_JOINTS = 21
_LAYOUT = (
    f"[joints, vertices]: first the {NUM_JOINTS} joints of all samples, then the vertices of all"
)
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def read_truth(folder: Path) -> Hands:
    """Ground truth from the data set's folder.

    Raises:
        DataError: a file is missing or is not what it should be.
    """
    joints = _points(_json(folder / TRUTH_JOINTS), f"{folder / TRUTH_JOINTS}", NUM_JOINTS)
    vertices = _points(_json(folder / TRUTH_VERTICES), f"{folder / TRUTH_VERTICES}", None)
    if len(joints) != len(vertices):
        raise DataError(
            f"{folder}: {TRUTH_JOINTS} has {len(joints)} samples and {TRUTH_VERTICES} "
            f"{len(vertices)}; they belong to different versions of the data set"
        )
    return Hands(joints, vertices)


def read_prediction(path: Path) -> Hands:
    """Predictions from a zip with `pred.json` at its root, or from a JSON file.

    Raises:
        DataError: the file is missing, damaged, or not in the leaderboard's layout; or it has
            samples with another number of joints, or numbers that are not finite.
    """
    parts = _zipped(path) if path.suffix.lower() == ".zip" else _json(path)
    if not isinstance(parts, list) or len(parts) != 2:
        raise DataError(f"{path} holds {_kind(parts)}; expected {_LAYOUT}")
    lengths = [_num_points(part) for part in parts]
    if lengths[0] != NUM_JOINTS and lengths[1] == NUM_JOINTS:
        raise DataError(f"{path} is [vertices, joints]; swap the two parts: expected {_LAYOUT}")
    joints = _points(parts[0], f"{path}: part 0 (joints)", NUM_JOINTS)
    parts[0] = None
    vertices = _points(parts[1], f"{path}: part 1 (vertices)", None)
    if len(joints) != len(vertices):
        raise DataError(
            f"{path} has joints of {len(joints)} samples and vertices of {len(vertices)}; "
            f"expected {_LAYOUT}"
        )
    return Hands(joints, vertices)


def write_prediction(path: Path, prediction: Hands) -> Path:
    """Write a zip that the leaderboard takes, see `write_prediction_parts`."""
    return write_prediction_parts(path, [prediction.joints], [prediction.vertices])


def write_prediction_parts(
    path: Path,
    joints: Iterable[Float[np.ndarray, "n 21 3"]],
    vertices: Iterable[Float[np.ndarray, "n V 3"]],
) -> Path:
    """Write a zip that the leaderboard takes; the file appears only when it is whole.

    The same predictions give the same bytes. float32 numbers are written as they are, exactly. One
    part is in memory at a time.

    Args:
        path: Of the file.
        joints: Of all samples in order, metres, in parts of any length.
        vertices: The same for their vertices.

    Returns:
        `path`.

    Raises:
        DataError: shapes that the leaderboard refuses, or numbers that are not finite.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                member = zipfile.ZipInfo(PREDICTION_MEMBER, _ZIP_EPOCH)
                member.compress_type = zipfile.ZIP_DEFLATED
                member.external_attr = 0o644 << 16
                with archive.open(member, "w", force_zip64=True) as stream:
                    _write_layout(stream, joints, vertices)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    fsync_folder(path.parent)
    return path


def _write_layout(
    stream: IO[bytes], joints: Iterable[np.ndarray], vertices: Iterable[np.ndarray]
) -> None:
    stream.write(b"[")
    num_joints = _write_points(stream, joints, "joints to write", NUM_JOINTS)
    stream.write(b", ")
    num_vertices = _write_points(stream, vertices, "vertices to write", None)
    stream.write(b"]")
    if num_joints != num_vertices:
        raise DataError(f"joints to write are of {num_joints} samples, vertices of {num_vertices}")


def _write_points(
    stream: IO[bytes], parts: Iterable[np.ndarray], what: str, num_points: int | None
) -> int:
    """Write samples as one list; `num_points` None takes as many as the first has."""
    written = 0
    stream.write(b"[")
    for points in parts:
        num_points = num_points or points.shape[1]
        expected = (len(points), num_points, 3)
        if points.shape != expected:
            raise DataError(f"{what} have shape {points.shape}, expected {expected}")
        _require_finite(points, what, first=written)
        for sample in points:
            text = json.dumps(sample.tolist(), allow_nan=False)
            stream.write((", " if written else "").encode() + text.encode())
            written += 1
    stream.write(b"]")
    return written


def _zipped(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            if PREDICTION_MEMBER not in archive.namelist():
                raise DataError(
                    f"{path} has no {PREDICTION_MEMBER} at its root; it holds "
                    f"{', '.join(archive.namelist()[:5]) or 'nothing'}"
                )
            with archive.open(PREDICTION_MEMBER) as stream:
                return _parse(stream, f"{path}/{PREDICTION_MEMBER}")
    except FileNotFoundError:
        raise DataError(f"prediction file {path} does not exist") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        raise DataError(f"{path} is not a readable zip file: {error}") from error


def _json(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return _parse(stream, str(path))
    except FileNotFoundError:
        raise DataError(f"file {path} does not exist") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _parse(stream: IO[bytes], name: str) -> Any:
    try:
        return json.load(stream)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON, or was cut off: {error}") from error


def _points(samples: Any, name: str, num_points: int | None) -> Float[np.ndarray, "N K 3"]:
    """Samples as one array; `num_points` None takes as many as the first sample has.

    Raises:
        DataError: names the first sample that does not fit.
    """
    if not isinstance(samples, list) or not samples:
        raise DataError(f"{name} holds {_kind(samples)}; expected a list of samples")
    expected = (num_points or _num_points(samples) or "any", 3)
    try:
        points = np.array(samples)
    except ValueError:  # lists of unequal length
        points = np.empty(0, object)
    if points.dtype.kind not in "fiu" or points.ndim != 3 or points.shape[1:] != expected:
        raise DataError(f"{name}: {_first_misfit(samples, expected)}")
    points = points.astype(np.float64, copy=False)
    _require_finite(points, name)
    return points


def _first_misfit(samples: Sequence[Any], expected: tuple[int | str, int]) -> str:
    wanted = f"expected {expected[0]} points of 3 numbers"
    for number, sample in enumerate(samples):
        try:
            points = np.array(sample)
        except ValueError:
            return f"sample {number} has points of unequal length; {wanted}"
        if points.shape != expected:
            return f"sample {number} has shape {points.shape}; {wanted}"
        if points.dtype.kind not in "fiu":
            return f"sample {number} holds something that is not a number; {wanted}"
    return f"the samples are not alike; {wanted} in each"


def _require_finite(points: Float[np.ndarray, "N K 3"], name: str, first: int = 0) -> None:
    bad = np.argwhere(~np.isfinite(points))
    if len(bad):
        sample, point, axis = bad[0]
        value = points[tuple(bad[0])]
        raise DataError(
            f"{name}: sample {first + sample}, point {point}, {'xyz'[axis]} is {value}; "
            f"{len(np.unique(bad[:, 0]))} of {len(points)} samples are not finite"
        )


def _num_points(samples: Any) -> int | None:
    """Points of the first sample, if there is one."""
    is_nested = isinstance(samples, list) and samples and isinstance(samples[0], list)
    return len(samples[0]) if is_nested else None


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"
