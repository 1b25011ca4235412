"""Reading tensors from files that come from anywhere: nothing in them is ever executed."""

from __future__ import annotations

import importlib
import pickle
import re
import struct
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from metro_ray.errors import CheckpointError

FOLDER_WEIGHTS = "model.safetensors"
_HUB_PREFIX = "hf_hub:"
_SUFFIXES = (".bin", ".pth", ".pt", ".safetensors", ".tar")
_WRAPPERS = ("state_dict", "model")
UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    struct.error,
)
"""What torch.load and load_state_dict raise for files that are damaged or of another model."""


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weights file or of one of our checkpoint folders, on the CPU.

    A dictionary under "state_dict" or "model" is unwrapped, a "module." prefix is taken off.

    Raises:
        CheckpointError: no such file, not a weights file, or one whose pickle wants to run code.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FOLDER_WEIGHTS
    if not path.is_file():
        raise CheckpointError(
            f"no weights at {path}; expected a file ({', '.join(_SUFFIXES)}) or a checkpoint "
            f"folder with {FOLDER_WEIGHTS}"
        )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, expected a state dict (names to tensors)"
        )
    strangers = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise CheckpointError(
            f"{path} is not a state dict: {', '.join(strangers[:3])} "
            f"{'is not a tensor' if len(strangers) == 1 else 'are not tensors'}"
        )
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def find_weights(name: str | Path) -> Path:
    """A weights file by path, or by its name on the Hugging Face hub (`timm/hrnet_w64.ms_in1k`).

    A path that exists wins; `hf_hub:` in front asks for the hub.

    Raises:
        CheckpointError: neither a file nor a hub name, or the hub cannot be asked.
    """
    text = str(name)
    if not text.startswith(_HUB_PREFIX) and Path(text).exists():
        return Path(text)
    repository = text.removeprefix(_HUB_PREFIX)
    looks_like_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", repository) is not None
    if not looks_like_hub or repository.endswith(_SUFFIXES):
        raise CheckpointError(
            f"no weights at {text}; expected a file ({', '.join(_SUFFIXES)}), or the name of a "
            "timm model on the Hugging Face hub such as timm/hrnet_w64.ms_in1k"
        )
    return _download(repository)


def _download(repository: str) -> Path:
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise CheckpointError(
            f"{repository} looks like a name on the Hugging Face hub, which needs the package "
            "huggingface_hub: run `pip install metro-ray[hub]`, or give the path of a file"
        ) from error
    try:
        return Path(hub.hf_hub_download(repository, FOLDER_WEIGHTS))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"cannot get {FOLDER_WEIGHTS} of {repository} from the Hugging Face hub: {reason}\n"
            "Without a connection, download it elsewhere and give its path."
        ) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise CheckpointError(_explain(path, str(error))) from error


def _explain(path: Path, message: str) -> str:
    """Why a pickle was refused and what to do; torch's own message advises to run it."""
    refused = re.search(r"GLOBAL ([\w.]+)", message)
    if refused is None:
        return f"{path} is not a readable PyTorch file, or is damaged or incomplete"
    name = refused[1]
    if name.split(".", 1)[0] in ("metro", "torch", "collections", "transformers"):
        return (
            f"{path} is a whole pickled module (it wants {name}), which is not loaded because it "
            "could run code. METRO writes its tensors beside it: use state_dict.bin of that folder"
        )
    return (
        f"{path} was refused: its pickle asks for {name}, which is not part of a state dict and "
        "could run code. Nothing in it was executed"
    )
