"""OnnxNetwork: a network from an ONNX file, run by ONNX Runtime on a CPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Int32, UInt8

from metro_ray.errors import CheckpointError, ConfigError
from metro_ray.inference.result import MeshArrays

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUT = "crops"
OUTPUTS = MeshArrays._fields
_PROPERTY = "metro_ray"


@dataclass(frozen=True, slots=True)
class OnnxCard:
    """What an ONNX file says about its network, in its metadata under `metro_ray`."""

    version: str
    """Of the weights: hash of their file, and the training step."""
    body_model: str
    kind: str
    """body or hand."""
    arch: str
    image_size: int
    joint_names: tuple[str, ...]
    """Of the output `joints`, in order."""

    def properties(self) -> dict[str, str]:
        """As metadata of the file."""
        return {_PROPERTY: json.dumps(asdict(self))}


class OnnxNetwork:
    """Maps crops to meshes.

    Args:
        path: a file that `export_onnx` or `metro-ray export` has written.
        threads: to compute with; None lets ONNX Runtime choose.

    Raises:
        ConfigError: ONNX Runtime is not installed.
        CheckpointError: no such file, or not one of ours.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._session = _open(path, threads)
        self.card = _read_card(path, self._session)

    def predict_arrays(self, crops: UInt8[np.ndarray, "B 3 S S"]) -> MeshArrays:
        """What the network says about a batch of crops, see `Predictor.predict_arrays`."""
        return MeshArrays(*self._run(OUTPUTS, crops))

    def faces(self) -> Int32[np.ndarray, "F 3"]:
        """Triangles of the mesh, counter-clockwise from outside."""
        side = self.card.image_size
        return self._run(["faces"], np.zeros((1, 3, side, side), np.uint8))[0]

    def _run(
        self, names: Sequence[str], crops: UInt8[np.ndarray, "B 3 S S"]
    ) -> list[np.ndarray[Any, Any]]:
        found = self._session.run(names, {INPUT: np.ascontiguousarray(crops)})
        return cast(list[np.ndarray[Any, Any]], found)


def _open(path: Path, threads: int | None) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "ONNX Runtime is not installed: pip install 'metro-ray[onnx]', or serve with "
            "engine: torch"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # Threads that spin while they wait take the cores from whoever else the machine works for.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not path.is_file():
        raise CheckpointError(
            f"{path} does not exist; write one with: metro-ray export CHECKPOINT --out {path}"
        )
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime's errors share no base class but this.
        raise CheckpointError(f"{path} is not a readable ONNX file: {error}") from error


def _read_card(path: Path, session: InferenceSession) -> OnnxCard:
    text = session.get_modelmeta().custom_metadata_map.get(_PROPERTY)
    try:
        values = json.loads(text or "")
        found: dict[str, Any] = {field.name: values[field.name] for field in fields(OnnxCard)}
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path} is an ONNX file of something else: its metadata has no card of metro_ray; "
            "write one with: metro-ray export CHECKPOINT"
        ) from error
    found["joint_names"] = tuple(found["joint_names"])
    return OnnxCard(**found)
