"""Checkpoints as folders: tensors and JSON that rebuild a run, never a pickled module.

    checkpoints/
      checkpoint-3-120/     after epoch 3, step 120; never changed once it is there
        model.safetensors   weights and BatchNorm statistics, contiguous float32; the moving
                            average of them where one is kept (optim.ema_decay)
        trained.safetensors only then: the weights that training goes on with
        optimizer.pt        Adam's state, read with weights_only=True
        meta.json           see `CheckpointMeta`
      best -> checkpoint-2-80
      last -> checkpoint-3-120

A folder is written under another name, flushed to the disk and renamed; the links are replaced by
renaming too. So whenever the process dies, `last` and `best` name complete checkpoints.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from metro_ray.bodies import load_body
from metro_ray.config.load import from_dict
from metro_ray.errors import CheckpointError, ConfigError
from metro_ray.models import Metro
from metro_ray.models.weights_file import UNREADABLE
from metro_ray.models.weights_io import load_weights
from metro_ray.training.builders import build_model
from metro_ray.training.checkpoint_meta import (
    FILES,
    META,
    OPTIMIZER,
    PREDICTOR_FILES,
    TRAINED,
    WEIGHTS,
    BestEntry,
    CheckpointMeta,
    read_meta,
)
from metro_ray.training.files import fsync_folder, replace_link, write_json
from metro_ray.training.system import versions

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.config.schema import TrainConfig

_PREFIX, _PARTIAL = "checkpoint-", ".partial-"
_NO_START: dict[str, Any] = {
    "backbone_weights": None,
    "backbone_init": "random",
    "grid_init": "random",
    "upsampling_init": "random",
}
"""Settings of `model` for weights that are about to be loaded."""


def save_checkpoint(
    root: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    meta: CheckpointMeta,
    *,
    average: nn.Module | None = None,
    metric: tuple[str, float] | None = None,
    keep: int = 1,
) -> tuple[Path, CheckpointMeta]:
    """Write a checkpoint folder under `root`, point `last` (and `best`) to it, drop old ones.

    Args:
        root: The run's checkpoint folder.
        model: Not wrapped.
        optimizer: Of the model.
        meta: `best` lists the best checkpoints before this one; `versions` are filled in here.
        average: The network with the moving average of the weights, where one is kept.
        metric: Name and value to rank this checkpoint by; None leaves the ranking alone.
        keep: How many of the best to keep beside the last.

    Returns:
        The folder, and the meta data as written.
    """
    name = reserve_name(root, meta)
    snapshot = take_snapshot(model, optimizer, average, copy=False)
    return root / name, write_checkpoint(
        root, name, snapshot, meta, best=meta.best, metric=metric, keep=keep
    )


class Snapshot(NamedTuple):
    """What a checkpoint's files hold, in the CPU's memory."""

    networks: dict[str, dict[str, Tensor]]
    """Tensors by the file they go to."""
    optimizer: dict[str, Any]


def take_snapshot(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None = None,
    *,
    copy: bool,
) -> Snapshot:
    """Weights and optimizer state as they are now.

    Args:
        model: Not wrapped.
        optimizer: Of the model.
        average: The network with the moving average, where one is kept.
        copy: Make it independent of steps to come; otherwise tensors on the CPU are shared.
    """

    def keep(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensor = value.detach().to("cpu", copy=copy)
            return tensor.contiguous()
        if isinstance(value, dict):
            return {key: keep(item) for key, item in value.items()}
        return [keep(item) for item in value] if isinstance(value, list) else value

    networks = {WEIGHTS: model} if average is None else {WEIGHTS: average, TRAINED: model}
    tensors = {name: keep(dict(network.state_dict())) for name, network in networks.items()}
    return Snapshot(tensors, keep(optimizer.state_dict()))


def reserve_name(root: Path, meta: CheckpointMeta) -> str:
    """Name of the folder that a checkpoint will have."""
    root.mkdir(parents=True, exist_ok=True)
    return _unused_name(root, f"{_PREFIX}{meta.epoch}-{meta.step}")


def write_checkpoint(
    root: Path,
    name: str,
    snapshot: Snapshot,
    meta: CheckpointMeta,
    *,
    best: Sequence[BestEntry],
    metric: tuple[str, float] | None,
    keep: int,
) -> CheckpointMeta:
    """Write a snapshot as `save_checkpoint` does, whose arguments these are.

    Returns:
        The meta data as written.
    """
    best = [entry for entry in best if (root / entry.folder).is_dir()]
    if metric is not None:
        best = [entry for entry in best if entry.metric == metric[0]]  # others do not compare
        best.append(
            BestEntry(
                metric=metric[0], value=metric[1], epoch=meta.epoch, step=meta.step, folder=name
            )
        )
        best = sorted(best, key=lambda entry: entry.value)[:keep]
    meta = replace(meta, best=tuple(best), versions=versions())
    partial = root / f"{_PARTIAL}{name}"
    _write_folder(partial, snapshot, meta)
    partial.rename(root / name)
    fsync_folder(root)
    replace_link(root / "last", name)
    if best:
        replace_link(root / "best", best[0].folder)
    _prune(root, {name, *(entry.folder for entry in best)})
    return meta


def load_checkpoint(
    folder: Path,
    model: Metro,
    optimizer: torch.optim.Optimizer | None = None,
    average: Metro | None = None,
) -> CheckpointMeta:
    """Fill a model from a checkpoint folder; with its optimizer, to go on training.

    Args:
        folder: Of the checkpoint.
        model: Gets the weights to predict with or, with an optimizer, those to train on.
        optimizer: Of the model.
        average: Gets the moving average, where the checkpoint has one.

    Raises:
        CheckpointError: Incomplete or broken folder, or weights of another architecture.
    """
    meta = read_meta(folder)
    trains_on = folder / TRAINED
    load_weights(model, trains_on if optimizer and trains_on.is_file() else folder)
    if average is not None:
        load_weights(average, folder)
    if optimizer is not None:
        try:
            state = torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True)
            optimizer.load_state_dict(state)
        except UNREADABLE as error:
            raise CheckpointError(f"cannot read {folder / OPTIMIZER}: {error}") from error
    return meta


class PredictorParts(NamedTuple):
    """What it takes to predict with a checkpoint."""

    config: TrainConfig
    body: BodyModel
    model: Metro
    """In evaluation mode, on the CPU."""
    meta: CheckpointMeta


def load_predictor_parts(folder: Path, assets_root: str | Path | None = None) -> PredictorParts:
    """Rebuild the network of a checkpoint from its own settings.

    The checkpoint holds every weight, so what they started from is not asked for again: the file of
    ImageNet weights may be gone.

    Args:
        folder: A checkpoint folder, such as `checkpoints/best` of a run.
        assets_root: Where licensed body models are; None takes the checkpoint's setting.

    Raises:
        CheckpointError: Incomplete, broken or inconsistent folder.
        AssetNotFoundError: The body model that it predicts is not on this machine.
    """
    meta = read_meta(folder, PREDICTOR_FILES)
    try:
        config = from_dict(meta.config)
    except ConfigError as error:
        raise CheckpointError(f"the settings in {folder / META} do not fit: {error}") from error
    body = load_body(meta.mesh, assets_root or config.assets.root)
    network = replace(config.model, **_NO_START)
    model = build_model(replace(config, model=network), body)
    load_weights(model, folder)
    return PredictorParts(config, body, model.eval(), meta)


def _write_folder(folder: Path, snapshot: Snapshot, meta: CheckpointMeta) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    for name, tensors in snapshot.networks.items():
        save_file(tensors, folder / name, metadata={"format": "pt"})
    torch.save(snapshot.optimizer, folder / OPTIMIZER)
    write_json(folder / META, asdict(meta))
    for name in {*FILES, *snapshot.networks}:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    fsync_folder(folder)


def _unused_name(root: Path, name: str) -> str:
    """`name`, or with a number behind it where an earlier run has left a folder of that name."""
    candidate, number = name, 1
    while (root / candidate).exists():
        candidate, number = f"{name}.{number}", number + 1
    return candidate


def _prune(root: Path, keep: set[str]) -> None:
    for path in root.iterdir():
        ours = path.name.startswith((_PREFIX, _PARTIAL)) and not path.is_symlink()
        if ours and path.name not in keep:
            shutil.rmtree(path)
