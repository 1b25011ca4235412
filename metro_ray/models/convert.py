"""METRO's released files <-> our checkpoint folders."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from metro_ray.errors import CheckpointError
from metro_ray.models.architecture import Architecture, infer_architecture
from metro_ray.models.metro import Metro
from metro_ray.models.metro_format import from_metro, to_metro
from metro_ray.models.weights_file import FOLDER_WEIGHTS, read_tensors
from metro_ray.models.weights_io import (
    LoadReport,
    compare,
    in_our_names,
    load_backbone_weights,
    load_state,
    load_weights,
    require_match,
)
from metro_ray.version import __version__

__all__ = [
    "LoadReport",
    "convert_weights",
    "load_backbone_weights",
    "load_state",
    "load_weights",
    "read_metro_state_dict",
    "to_metro_state_dict",
]

_METRO_MARK = "state_dict"  # METRO unpickles a whole module unless its path says this
_OPTIMIZER, _META = "optimizer.pt", "meta.json"
_PARTIAL = ".partial-"


def read_metro_state_dict(path: str | Path) -> dict[str, Tensor]:
    """A METRO `*_state_dict.bin` in our names, without what METRO never uses.

    Raises:
        CheckpointError: unreadable or unsafe file, or not a METRO state dict.
    """
    state = read_tensors(path)
    if not _is_metro(state):
        raise CheckpointError(f"{path} is not a METRO state dict: it has no trans_encoder keys")
    return from_metro(state).state


def to_metro_state_dict(model: Metro) -> dict[str, Tensor]:
    """What METRO's own code would load into the same network: its keys, order and shapes.

    Raises:
        CheckpointError: METRO has no place for a tensor, or for so many tokens.
    """
    return to_metro({key: value.detach().cpu() for key, value in model.state_dict().items()})


def convert_weights(
    source: str | Path,
    target: str | Path,
    *,
    num_attention_heads: int = 4,
    allow_mismatch: bool = False,
) -> LoadReport:
    """Writes the other format: METRO's state dict to a checkpoint folder, or ours to METRO's.

    The folder is a complete checkpoint after zero steps, so it can be evaluated, served and
    fine-tuned. METRO's file gets the entries that it never uses filled in.

    Args:
        source: METRO's `*_state_dict.bin`; or one of our checkpoint folders or its safetensors.
        target: A new folder; or a new file `*state_dict*.bin`.
        num_attention_heads: Heads of a METRO network, which its file does not tell.
        allow_mismatch: Leave out keys that the network does not have. Missing keys and wrong
            shapes are never allowed, since the result could not be loaded.

    Returns:
        What became of every key.

    Raises:
        CheckpointError: unreadable or unsafe source, unknown architecture, keys that do not match,
            or a target that exists or has the wrong form.
    """
    source, target = Path(source), Path(target)
    tensors = read_tensors(source)
    metro_source = _is_metro(tensors)
    _check_target(target, metro_source=metro_source)
    state, dead = in_our_names(tensors)
    architecture = infer_architecture(state, num_attention_heads)
    skeleton = architecture.skeleton()
    own = skeleton.state_dict()
    report = compare(state, own)._replace(dead=dead)
    require_match(report, str(source), allow_mismatch)
    if report.missing or report.wrong_shape:
        raise CheckpointError(
            f"{source} cannot be converted: the network would be incomplete\n{report.differences()}"
        )
    complete = {key: _entry(key, state, value) for key, value in own.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(_PARTIAL + target.name)
    if metro_source:
        _write_folder(partial, complete, architecture, skeleton, source)
    else:
        # The format before torch 1.6, which the PyTorch 1.4 of METRO's instructions can read.
        torch.save(OrderedDict(to_metro(complete)), partial, _use_new_zipfile_serialization=False)
    partial.rename(target)
    return report


def _is_metro(state: Mapping[str, Tensor]) -> bool:
    return any(key.startswith("trans_encoder.") for key in state)


def _entry(key: str, state: Mapping[str, Tensor], own: Tensor) -> Tensor:
    """The file's tensor in the network's type; a batch counter that old files lack is zero."""
    if key not in state:
        return torch.zeros(own.shape, dtype=own.dtype)
    return state[key].to(own.dtype).contiguous()


def _check_target(target: Path, *, metro_source: bool) -> None:
    if target.exists():
        raise CheckpointError(f"{target} exists already; name a new one")
    if metro_source and target.suffix == ".bin":
        raise CheckpointError(
            f"the source is a METRO state dict, so the target is a checkpoint folder, got {target}"
        )
    if not metro_source and (target.suffix != ".bin" or _METRO_MARK not in target.name):
        raise CheckpointError(
            f"METRO reads a file as a state dict only if its name says {_METRO_MARK!r}; expected "
            f"a target such as metro_state_dict.bin, got {target}"
        )


def _write_folder(
    folder: Path,
    state: dict[str, Tensor],
    architecture: Architecture,
    skeleton: Metro,
    source: Path,
) -> None:
    """A checkpoint folder as training writes it, with an optimizer that has seen nothing."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    save_file(state, folder / FOLDER_WEIGHTS, metadata={"format": "pt"})
    torch.save(torch.optim.Adam(skeleton.parameters()).state_dict(), folder / _OPTIMIZER)
    (folder / _META).write_text(json.dumps(_meta(architecture, source), indent=2) + "\n")


def _meta(architecture: Architecture, source: Path) -> dict[str, Any]:
    spec = architecture.spec
    model = {
        "mesh": spec.name,
        "arch": architecture.arch,
        "input_feat_dim": list(architecture.input_feat_dim),
        "hidden_feat_dim": list(architecture.hidden_feat_dim),
        "num_hidden_layers": architecture.num_hidden_layers,
        "num_attention_heads": architecture.num_attention_heads,
    }
    return {
        "config": {"kind": spec.kind, "model": model},
        "mesh": spec.name,
        "epoch": 0,
        "step": 0,
        "row_in_epoch": 0,
        "world_size": 1,
        "best": [],
        "metrics": {},
        "versions": {
            "metro_ray": __version__,
            "torch": torch.__version__,
            "converted_from": source.name,
        },
        "format": 3,
    }
