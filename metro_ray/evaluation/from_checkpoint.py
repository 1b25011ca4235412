"""The settings of a job that takes its network from a checkpoint: those that its tensors fit.

One of our folders says in its `meta.json` what it is; METRO's `*_state_dict.bin` says it by its
keys and shapes, all but the number of attention heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metro_ray.bodies.spec import get_spec
from metro_ray.config.flags import task_defaults
from metro_ray.config.keys import flatten
from metro_ray.config.load import build_config, value_of
from metro_ray.errors import CheckpointError, ConfigError
from metro_ray.models.architecture import infer_architecture
from metro_ray.models.weights_file import read_tensors
from metro_ray.models.weights_io import in_our_names
from metro_ray.training.checkpoint_meta import ARCHITECTURE, META, WEIGHTS, read_meta

if TYPE_CHECKING:
    from metro_ray.config.schema import Kind, TrainConfig

_CHECKPOINT = "run.resume_checkpoint"
_ARITHMETIC = ("optim.precision", "optim.channels_last")
_SECOND_NAMES = {"hrnet": "hrnet-w40"}


class NetworkFacts(NamedTuple):
    """What a checkpoint says about its network."""

    settings: dict[str, Any]
    """By dotted key: mesh, architecture and, where it is known, the arithmetic of its training."""
    epoch: int | None
    """Complete epochs of training; METRO's files, converted or not, do not tell."""
    weights: Path
    """The file with the tensors."""


class Ready(NamedTuple):
    """Settings that are complete, and what they were completed with."""

    config: TrainConfig
    facts: NetworkFacts


def config_of_checkpoint(kind: Kind, given: Mapping[str, Any]) -> Ready:
    """METRO's defaults of the task < what the checkpoint says < what is given.

    Args:
        kind: "body" or "hand".
        given: Settings by dotted key, `run.resume_checkpoint` among them.

    Raises:
        ConfigError: No checkpoint is given, it is of the other kind, or a value is impossible.
        CheckpointError: Unreadable, or given settings contradict it.
    """
    name = given.get(_CHECKPOINT)
    if name is None:
        raise ConfigError(
            f"which checkpoint? Give --model_path (or --{_CHECKPOINT}): a folder such as "
            "checkpoints/best of a run, or METRO's *_state_dict.bin"
        )
    path = Path(name).absolute()
    facts = read_facts(path)
    its_kind = get_spec(facts.settings["model.mesh"]).kind
    if its_kind != kind:
        raise ConfigError(
            f"checkpoint {path} predicts {facts.settings['model.mesh']}, a {its_kind}: use the "
            f"jobs for that kind (jobs/predict_{its_kind}.py, jobs/eval_{its_kind}.py)"
        )
    mesh = given.get("model.mesh", "auto")
    own = {"model.mesh": facts.settings["model.mesh"]} if mesh == "auto" else {}
    settings = task_defaults(kind) | facts.settings | dict(given) | own | {_CHECKPOINT: str(path)}
    config = build_config(kind, settings)
    _require_agreement(config, facts, path)
    return Ready(config, facts)


def read_facts(path: Path) -> NetworkFacts:
    """Look into a checkpoint folder, or at the keys and shapes of a file of weights.

    Raises:
        CheckpointError: It does not exist, is unreadable or unsafe, or is no whole network.
    """
    if not path.exists():
        raise CheckpointError(f"checkpoint {path} does not exist")
    if path.is_dir():
        meta = read_meta(path)
        theirs = flatten(_known_sections(meta.config), str(path / META))
        names = (*(f"model.{name}" for name in ARCHITECTURE), *_ARITHMETIC)
        settings = {name: theirs[name] for name in names if name in theirs}
        epoch = None if "converted_from" in meta.versions else meta.epoch
        return NetworkFacts(settings | {"model.mesh": meta.mesh}, epoch, path / WEIGHTS)
    state, _ = in_our_names(read_tensors(path))
    network = infer_architecture(state)
    settings = {
        "model.mesh": network.spec.name,
        "model.arch": network.arch,
        "model.input_feat_dim": network.input_feat_dim,
        "model.hidden_feat_dim": network.hidden_feat_dim,
        "model.num_hidden_layers": network.num_hidden_layers,
    }
    return NetworkFacts(settings, None, path)


def _known_sections(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tree[name] for name in ("model", "optim") if name in tree}


def _require_agreement(config: TrainConfig, facts: NetworkFacts, path: Path) -> None:
    differing = []
    for name, theirs in facts.settings.items():
        ours = value_of(config, name)
        same = _SECOND_NAMES.get(ours, ours) if isinstance(ours, str) else ours
        wanted = tuple(theirs) if isinstance(theirs, list) else theirs
        wanted = _SECOND_NAMES.get(wanted, wanted) if isinstance(wanted, str) else wanted
        if name not in _ARITHMETIC and same != wanted:
            differing.append(f"{name} is {wanted} there and {ours} in your settings")
    if differing:
        raise CheckpointError(
            f"checkpoint {path} is of another architecture: {'; '.join(differing)}. Leave these "
            "settings out: they are taken from the checkpoint"
        )
