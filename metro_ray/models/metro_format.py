"""METRO's state dict <-> ours: a table of names, and the entries that METRO carries but never uses.

Both directions work on plain dictionaries; no network is built. Facts of the format: in each of
METRO's encoders the word, position and token type embeddings with their LayerNorm, and the pooler,
never get a gradient; nor does HRNet's ImageNet classifier; of a position table's 512 rows only as
many are used as there are tokens. We do not have these entries. When a METRO state dict is written
they are filled with zeros (LayerNorm weights with ones), which the original loads and ignores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from metro_ray.errors import CheckpointError

POSITION_ROWS = 512
VOCABULARY = 30522
TOKEN_TYPES = 2
CLASSES = 1000

# Ours, METRO's. {e} is the encoder, {l} the layer; a trailing .weight or .bias stays.
_NAMES = (
    ("image_tokens.mix", "conv_learn_tokens"),
    ("cascade.encoders.{e}.positions", "trans_encoder.{e}.bert.position_embeddings.weight"),
    ("cascade.encoders.{e}.embedding", "trans_encoder.{e}.bert.img_embedding"),
    ("cascade.encoders.{e}.projection", "trans_encoder.{e}.cls_head"),
    ("cascade.encoders.{e}.residual", "trans_encoder.{e}.residual"),
    *(
        (
            f"cascade.encoders.{{e}}.layers.{{l}}.{ours}",
            f"trans_encoder.{{e}}.bert.encoder.layer.{{l}}.{metro}",
        )
        for ours, metro in (
            ("attention.query", "attention.self.query"),
            ("attention.key", "attention.self.key"),
            ("attention.value", "attention.self.value"),
            ("attention.output", "attention.output.dense"),
            ("attention_norm", "attention.output.LayerNorm"),
            ("widen", "intermediate.dense"),
            ("narrow", "output.dense"),
            ("output_norm", "output.LayerNorm"),
        )
    ),
    ("upsampler.steps.0", "upsampling"),
    ("upsampler.steps.1", "upsampling2"),
    ("camera.per_token", "cam_param_fc"),
    ("camera.over_tokens", "cam_param_fc2"),
    ("camera.output", "cam_param_fc3"),
)
_RESNET_CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_DEAD = re.compile(
    r"trans_encoder\.\d+\.bert\.(embeddings|pooler)\..+|backbone\.(classifier|fc)\..+"
)
_ENCODER_ORDER = (
    "bert.embeddings.word_embeddings",
    "bert.embeddings.position_embeddings",
    "bert.embeddings.token_type_embeddings",
    "bert.embeddings.LayerNorm",
    "bert.encoder",
    "bert.pooler",
    "bert.position_embeddings",
    "bert.img_embedding",
    "cls_head",
    "residual",
)
_TOP_ORDER = ("backbone", "trans_encoder", "upsampling", "upsampling2", "conv_learn_tokens",
              "cam_param_fc", "cam_param_fc2", "cam_param_fc3")  # fmt: skip


class FromMetro(NamedTuple):
    """A METRO state dict in our names."""

    state: dict[str, Tensor]
    """Keys that METRO does not have either keep their name."""
    dead: tuple[str, ...]
    """METRO keys left out because nothing ever uses them."""


def _compile(template: str) -> re.Pattern[str]:
    pattern = re.escape(template).replace(r"\{e\}", r"(?P<e>\d+)").replace(r"\{l\}", r"(?P<l>\d+)")
    return re.compile(pattern + r"(?P<leaf>(?:\.weight|\.bias)?)")


_TO_METRO = tuple((_compile(ours), metro) for ours, metro in _NAMES)
_TO_OURS = tuple((_compile(metro), ours) for ours, metro in _NAMES)


def _rename(key: str, table: tuple[tuple[re.Pattern[str], str], ...]) -> str | None:
    for pattern, template in table:
        match = pattern.fullmatch(key)
        if match:
            groups = match.groupdict()
            name = template.replace("{e}", groups.get("e") or "").replace(
                "{l}", groups.get("l") or ""
            )
            return name + groups["leaf"]
    return None


def to_metro_key(key: str, *, resnet: bool = False) -> str:
    """METRO's name of one of our tensors.

    Args:
        key: Our name.
        resnet: The backbone is a ResNet, whose children METRO numbers.

    Raises:
        CheckpointError: METRO has no such tensor.
    """
    if key.startswith("backbone."):
        _, child, rest = key.split(".", 2)
        return f"backbone.{_RESNET_CHILDREN.index(child)}.{rest}" if resnet else key
    name = _rename(key, _TO_METRO)
    if name is None:
        raise CheckpointError(f"METRO's state dict has no place for {key}")
    return name


def from_metro(state: Mapping[str, Tensor]) -> FromMetro:
    """A METRO state dict in our names, without what is never used.

    Position tables keep the rows of the tokens there are.
    """
    num_tokens = _num_tokens(state)
    renamed, dead = {}, []
    for key, value in state.items():
        if _DEAD.fullmatch(key):
            dead.append(key)
            continue
        name = _rename(key, _TO_OURS) or _resnet_name(key)
        if name.endswith(".positions") and num_tokens is not None:
            value = value[:num_tokens].clone()
        renamed[name] = value
    return FromMetro(renamed, tuple(dead))


def to_metro(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state in METRO's names, order and shapes, dead entries filled.

    Args:
        state: Of a whole `Metro`, backbone keys in the order of its module.

    Raises:
        CheckpointError: a tensor has no place in METRO's format, or there are more than 512 tokens.
    """
    resnet = is_resnet(state)
    entries = {to_metro_key(key, resnet=resnet): value for key, value in state.items()}
    for key, value in state.items():
        if key.endswith(".positions"):
            entries[to_metro_key(key)] = _full_table(value)
            encoder = key.split(".")[2]
            entries |= dead_encoder_entries(f"trans_encoder.{encoder}.bert", value.shape[1])
    if "backbone.final_layer.0.weight" in state:
        entries |= dead_classifier_entries(state["backbone.final_layer.0.weight"].shape[0])
    return dict(sorted(entries.items(), key=lambda item: _metro_rank(item[0])))


def dead_encoder_entries(prefix: str, hidden: int) -> dict[str, Tensor]:
    """What one of METRO's encoders carries and never uses, filled."""
    return {
        f"{prefix}.embeddings.word_embeddings.weight": torch.zeros(VOCABULARY, hidden),
        f"{prefix}.embeddings.position_embeddings.weight": torch.zeros(POSITION_ROWS, hidden),
        f"{prefix}.embeddings.token_type_embeddings.weight": torch.zeros(TOKEN_TYPES, hidden),
        f"{prefix}.embeddings.LayerNorm.weight": torch.ones(hidden),
        f"{prefix}.embeddings.LayerNorm.bias": torch.zeros(hidden),
        f"{prefix}.pooler.dense.weight": torch.zeros(hidden, hidden),
        f"{prefix}.pooler.dense.bias": torch.zeros(hidden),
    }


def dead_classifier_entries(features: int) -> dict[str, Tensor]:
    """HRNet's ImageNet classifier, filled."""
    return {
        "backbone.classifier.weight": torch.zeros(CLASSES, features),
        "backbone.classifier.bias": torch.zeros(CLASSES),
    }


def is_resnet(state: Mapping[str, Tensor]) -> bool:
    """Whether the backbone, in our names, is one whose children METRO numbers."""
    return "backbone.layer4.0.conv1.weight" in state


def _resnet_name(key: str) -> str:
    match = re.fullmatch(r"backbone\.([0-7])\.(.+)", key)
    return f"backbone.{_RESNET_CHILDREN[int(match[1])]}.{match[2]}" if match else key


def _num_tokens(state: Mapping[str, Tensor]) -> int | None:
    """Tokens of a METRO network: rows of the body's grid mix, inputs of the hand's camera."""
    if "conv_learn_tokens.weight" in state:
        return state["conv_learn_tokens.weight"].shape[0]
    if "cam_param_fc2.weight" in state:
        return state["cam_param_fc2.weight"].shape[1]
    return None


def _full_table(positions: Tensor) -> Tensor:
    num_tokens, hidden = positions.shape
    if num_tokens > POSITION_ROWS:
        raise CheckpointError(
            f"METRO's position tables have {POSITION_ROWS} rows, "
            f"this network has {num_tokens} tokens"
        )
    table = torch.zeros(POSITION_ROWS, hidden, dtype=positions.dtype)
    table[:num_tokens] = positions
    return table


def _metro_rank(key: str) -> tuple[int, int, int]:
    """Place of a key in METRO's order; keys of one module keep the order they came in."""
    top = _TOP_ORDER.index(key.split(".", 1)[0])
    if not key.startswith("trans_encoder."):
        return top, int(key.startswith("backbone.classifier.")), 0
    _, encoder, rest = key.split(".", 2)
    place = next(i for i, name in enumerate(_ENCODER_ORDER) if rest.startswith(name + "."))
    return top, int(encoder), place
