"""Reads the pickles of SMPL, MANO and the sampling matrices without running what they contain.

A pickle is a program that may name any importable function. This reader resolves the few names that
such files need, lets inert objects stand in for chumpy's and scipy's, and refuses every other name
before anything is called. Nothing that a file names outlives the reading of it.
"""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse

from metro_ray.errors import AssetError

_BROKEN = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
)


class _Inert:
    """Stands in for an object of a library: keeps its state, does nothing."""

    def __init__(self, *args: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _Chumpy(_Inert):
    """An object of chumpy, the array library of the original model files."""


class _Sparse(_Inert):
    """A compressed sparse column matrix."""


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a model file; its arrays plain, its sparse matrices scipy's.

    Raises:
        AssetError: the file is damaged, holds no dictionary, or names what is not allowed.
    """
    with path.open("rb") as stream:
        content = _load(stream, str(path))
    if not isinstance(content, dict):
        raise AssetError(f"{path} should hold a dictionary, got {type(content).__name__}")
    return {str(key): _plain(value, f"{path}: {key}") for key, value in content.items()}


def read_object_array(path: Path, entry: str) -> list[Any]:
    """One entry of an `.npz` file whose arrays hold objects; the other entries are not looked at.

    Raises:
        AssetError: the file or entry is damaged or missing, or names something that is not allowed.
    """
    where = f"{path}: {entry}"
    try:
        with zipfile.ZipFile(path) as archive:
            stream = io.BytesIO(archive.read(f"{entry}.npy"))
        major, _ = np.lib.format.read_magic(stream)
        header = (
            np.lib.format.read_array_header_1_0
            if major == 1
            else np.lib.format.read_array_header_2_0
        )
        dtype = header(stream)[2]
    except _BROKEN as error:
        raise AssetError(f"{where} cannot be read: {error}") from error
    if not dtype.hasobject:
        stream.seek(0)
        return list(np.load(stream, allow_pickle=False))
    content = _load(stream, where)
    if not isinstance(content, np.ndarray):
        raise AssetError(f"{where} should hold an array, got {type(content).__name__}")
    return [_plain(value, where) for value in content]


def _load(stream: BinaryIO, where: str) -> object:
    try:
        return _RestrictedUnpickler(stream, where).load()
    except _BROKEN as error:
        raise AssetError(f"{where} cannot be read: {error}") from error


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, stream: BinaryIO, where: str) -> None:
        super().__init__(stream, encoding="latin1")  # the files were written by Python 2
        self._where = where
        # Made for this file only: a pickle can set attributes of what it names.
        self._chumpy = type("Chumpy", (_Chumpy,), {})
        self._known = _known_names()

    def find_class(self, module: str, name: str) -> Any:
        if module == "chumpy" or module.startswith("chumpy."):
            return self._chumpy
        full_name = f"{module}.{name}"
        if full_name not in self._known:
            raise AssetError(
                f"{self._where} is refused: it names {full_name}, which is none of the array types "
                "that a model file needs. Nothing of it was run. Use the file from its publisher."
            )
        return self._known[full_name]


def _known_names() -> dict[str, Any]:
    def reconstruct(array_type: object, shape: object, typecode: object) -> np.ndarray:
        return np.ndarray.__new__(np.ndarray, (0,), np.dtype("b"))  # its state follows

    def scalar(dtype: np.dtype, data: bytes | str) -> np.generic:
        return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype)[0]

    def encode(text: str, encoding: str) -> bytes:
        return text.encode("latin1")  # how a protocol 2 pickle spells bytes

    def reconstructor(kind: type, base: type, state: object) -> _Inert:
        if not (isinstance(kind, type) and issubclass(kind, _Inert)):
            raise pickle.UnpicklingError(f"cannot make a {kind!r} from nothing")
        return kind()

    sparse = type("Sparse", (_Sparse,), {})
    known: dict[str, type | Callable] = {
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": np.dtype,
        "_codecs.encode": encode,
    }
    for core in ("numpy.core.multiarray", "numpy._core.multiarray"):
        known |= {f"{core}._reconstruct": reconstruct, f"{core}.scalar": scalar}
    for module in ("scipy.sparse.csc", "scipy.sparse._csc"):
        known |= {f"{module}.csc_matrix": sparse, f"{module}.csc_array": sparse}
    for module in ("copy_reg", "copyreg"):
        known[f"{module}._reconstructor"] = reconstructor
    for module in ("__builtin__", "builtins"):
        known[f"{module}.object"] = type("Object", (), {})
    return known


def _plain(value: object, where: str) -> Any:
    if isinstance(value, _Sparse):
        state = value.state
        parts = [np.asarray(state[key]) for key in ("data", "indices", "indptr")]
        shape = state["_shape"] if "_shape" in state else state["shape"]
        return scipy.sparse.csc_matrix(tuple(parts), shape=tuple(int(side) for side in shape))
    if isinstance(value, _Chumpy):
        return _chumpy_array(value, where)
    return value


def _chumpy_array(value: object, where: str) -> Any:
    """The array of a chumpy constant (`x`) or selection (`a[idxs]`); None for other expressions."""
    if not isinstance(value, _Chumpy):
        return np.asarray(value)
    state = value.state
    if "x" in state:
        return np.asarray(state["x"])
    if "a" in state and "idxs" in state:
        chosen = _chumpy_array(state["a"], where).ravel()[np.asarray(state["idxs"], np.int64)]
        return chosen.reshape(state.get("preferred_shape", chosen.shape))
    return None
