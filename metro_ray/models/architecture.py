"""Which network a state belongs to, told from its keys and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metro_ray.bodies.spec import SPECS, MeshSpec
from metro_ray.errors import CheckpointError
from metro_ray.models.backbones import BACKBONES
from metro_ray.models.metro import Metro, build_metro

_BACKBONE = "backbone."
_SHORT_NAMES = ("hrnet",)  # a second name of hrnet-w40


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """What `build_metro` needs to make the network of a state."""

    spec: MeshSpec
    arch: str
    input_feat_dim: tuple[int, ...]
    hidden_feat_dim: tuple[int, ...]
    num_hidden_layers: int
    num_attention_heads: int
    """Not in any shape: METRO's documented 4 unless told otherwise."""

    def skeleton(self) -> Metro:
        """The network without memory for its numbers (torch's meta device)."""
        with torch.device("meta"):
            return build_metro(
                self.spec,
                torch.zeros(self.spec.num_tokens, 3),
                arch=self.arch,
                input_feat_dim=self.input_feat_dim,
                hidden_feat_dim=self.hidden_feat_dim,
                num_hidden_layers=self.num_hidden_layers,
                num_attention_heads=self.num_attention_heads,
                dropout=0.0,
            )


def infer_architecture(state: Mapping[str, Tensor], num_attention_heads: int = 4) -> Architecture:
    """Reads the architecture off a whole network's state in our names.

    Raises:
        CheckpointError: keys are missing, or mesh or backbone are none that we know.
    """
    found = [
        re.fullmatch(r"cascade\.encoders\.(\d+)\.(?:layers\.(\d+)\.)?.+", key) for key in state
    ]
    encoders = {int(match[1]) for match in found if match}
    layers = {int(match[2]) for match in found if match and match[2]}
    try:
        embeddings = [state[f"cascade.encoders.{i}.embedding.weight"] for i in sorted(encoders)]
        spec = _find_spec(state)
    except KeyError as error:
        raise CheckpointError(f"not the state of a whole METRO network: {error} missing") from error
    if not embeddings or not layers:
        raise CheckpointError("not the state of a whole METRO network: it has no encoders")
    return Architecture(
        spec=spec,
        arch=_find_backbone(state),
        input_feat_dim=tuple(weight.shape[1] for weight in embeddings),
        hidden_feat_dim=tuple(weight.shape[0] for weight in embeddings),
        num_hidden_layers=max(layers) + 1,
        num_attention_heads=num_attention_heads,
    )


def _find_spec(state: Mapping[str, Tensor]) -> MeshSpec:
    num_tokens = state["cascade.encoders.0.positions"].shape[0]
    levels = [state["upsampler.steps.0.weight"].shape[1]]
    while f"upsampler.steps.{len(levels) - 1}.weight" in state:
        levels.append(state[f"upsampler.steps.{len(levels) - 1}.weight"].shape[0])
    for spec in SPECS.values():
        if spec.vertex_levels == tuple(levels) and spec.num_tokens == num_tokens:
            return spec
    raise CheckpointError(
        f"no known body model has {num_tokens} tokens and vertex levels {levels}; known are "
        + ", ".join(f"{spec.name} {list(spec.vertex_levels)}" for spec in SPECS.values())
    )


def _find_backbone(state: Mapping[str, Tensor]) -> str:
    shapes = {
        key.removeprefix(_BACKBONE): value.shape
        for key, value in state.items()
        if key.startswith(_BACKBONE) and not key.endswith("num_batches_tracked")
    }
    for name, build in BACKBONES.items():
        if name in _SHORT_NAMES:
            continue
        with torch.device("meta"):
            own = build().state_dict()
        if shapes == {
            key: value.shape
            for key, value in own.items()
            if not key.endswith("num_batches_tracked")
        }:
            return name
    raise CheckpointError(
        f"the backbone ({len(shapes)} tensors) is none of: {', '.join(sorted(BACKBONES))}"
    )
