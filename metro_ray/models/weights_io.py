"""Weights into a network, from every format we know, with a report of every key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from metro_ray.errors import CheckpointError
from metro_ray.models.metro import Metro
from metro_ray.models.metro_format import from_metro
from metro_ray.models.weights_file import find_weights, read_tensors

_BACKBONE = "backbone."
_CLASSIFIERS = ("classifier.", "fc.", "head.fc.")


class LoadReport(NamedTuple):
    """What became of every key; our names where a key has one, the file's own elsewhere."""

    missing: tuple[str, ...]
    """In the network, not in the file."""
    unexpected: tuple[str, ...]
    """In the file, not in the network."""
    wrong_shape: tuple[str, ...]
    """In both, with both shapes behind the name."""
    used: tuple[str, ...]
    dead: tuple[str, ...] = ()
    """In the file, known, and of no use: METRO's untrained tables, ImageNet classifiers."""

    @property
    def matches(self) -> bool:
        """Whether file and network have the same keys and shapes, dead entries aside."""
        return not (self.missing or self.unexpected or self.wrong_shape)

    def differences(self) -> str:
        """Every key that did not match, one kind a line."""
        kinds = (
            ("missing in the file", self.missing),
            ("not in the network", self.unexpected),
            ("of another shape", self.wrong_shape),
        )
        return "\n".join(f"{len(keys)} {kind}: {', '.join(keys)}" for kind, keys in kinds if keys)


def load_weights(model: Metro, path: str | Path, allow_mismatch: bool = False) -> LoadReport:
    """Fills a whole network from METRO's state_dict.bin, a checkpoint folder or its safetensors.

    Unless a mismatch is allowed, nothing is changed when one key does not match.

    Raises:
        CheckpointError: unreadable or unsafe file, a backbone alone, or keys that do not match.
    """
    return load_state(model, read_tensors(path), str(path), allow_mismatch)


def load_state(
    model: Metro, tensors: Mapping[str, Tensor], where: str, allow_mismatch: bool = False
) -> LoadReport:
    """`load_weights` from tensors that are in memory; `where` names them in messages.

    Raises:
        CheckpointError: a backbone alone, or keys that do not match.
    """
    state, dead = in_our_names(tensors)
    if not any(key.startswith("cascade.") for key in state):
        raise CheckpointError(
            f"{where} does not hold a METRO network; ImageNet weights of a backbone belong to "
            "model.backbone_weights"
        )
    return _fill(model, state, dead, where, allow_mismatch)


def load_backbone_weights(
    model: Metro, name: str | Path, allow_mismatch: bool = False
) -> LoadReport:
    """Fills the backbone from ImageNet weights: HRNet .pth, timm safetensors, torchvision.

    Args:
        model: Its other parts stay as they are.
        name: A path, or a name on the Hugging Face hub such as `timm/hrnet_w64.ms_in1k`.
        allow_mismatch: Load what matches; otherwise nothing is changed when one key does not.

    Raises:
        CheckpointError: unreadable or unsafe file, no such name, or keys that do not match.
    """
    path = find_weights(name)
    state, dead = in_our_names(read_tensors(path))
    if any(key.startswith(_BACKBONE) for key in state):
        state = {
            key.removeprefix(_BACKBONE): value
            for key, value in state.items()
            if key.startswith(_BACKBONE)
        }
    classifier = tuple(key for key in state if key.startswith(_CLASSIFIERS))
    state = {key: value for key, value in state.items() if key not in classifier}
    return _fill(model.backbone, state, (*dead, *classifier), str(path), allow_mismatch)


def in_our_names(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """A state in our names whichever format it has, and METRO's dead keys in it."""
    if any(key.startswith("trans_encoder.") for key in state):
        return from_metro(state)
    return dict(state), ()


def compare(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> LoadReport:
    """Keys and shapes of a file against those of a network.

    BatchNorm's batch counters may be missing: files older than torch 0.4.1 have none, and only
    cumulative averages, which no backbone here uses, read them.
    """
    counters = ("num_batches_tracked",)
    missing = [key for key in own if key not in state and not key.endswith(counters)]
    both = [key for key in own if key in state]
    wrong = [key for key in both if own[key].shape != state[key].shape]
    return LoadReport(
        missing=tuple(missing),
        unexpected=tuple(key for key in state if key not in own),
        wrong_shape=tuple(
            f"{key} (file {list(state[key].shape)}, network {list(own[key].shape)})"
            for key in wrong
        ),
        used=tuple(key for key in both if key not in set(wrong)),
    )


def require_match(report: LoadReport, where: str, allow_mismatch: bool) -> None:
    """Stops at a mismatch that is not allowed.

    Raises:
        CheckpointError: listing every key that does not match.
    """
    if not report.matches and not allow_mismatch:
        raise CheckpointError(
            f"{where} does not fit the network; {len(report.used)} keys match\n"
            f"{report.differences()}\n"
            "Choose the architecture that it was trained with, or allow the mismatch "
            "(run.allow_mismatch) to load the keys that match."
        )


def _fill(
    module: nn.Module,
    state: Mapping[str, Tensor],
    dead: tuple[str, ...],
    where: str,
    allow_mismatch: bool,
) -> LoadReport:
    report = compare(state, module.state_dict())._replace(dead=dead)
    require_match(report, where, allow_mismatch)
    if not report.used:
        raise CheckpointError(f"{where}: not one key fits the network\n{report.differences()}")
    module.load_state_dict({key: state[key] for key in report.used}, strict=False)
    return report
