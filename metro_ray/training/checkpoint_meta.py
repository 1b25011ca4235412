"""What a checkpoint says about itself: its `meta.json`, and whether it fits a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metro_ray.errors import CheckpointError

FORMAT = 3
WEIGHTS, OPTIMIZER, META = "model.safetensors", "optimizer.pt", "meta.json"
TRAINED = "trained.safetensors"
"""Only where `model.safetensors` is a moving average: the weights that training goes on with."""
FILES = (WEIGHTS, OPTIMIZER, META)
PREDICTOR_FILES = (WEIGHTS, META)
"""What it takes to predict."""
ARCHITECTURE = (
    "arch",
    "input_feat_dim",
    "hidden_feat_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
)
"""Settings of `model` that decide which tensors a network has, or how it uses them."""
_COURSE = {
    "model.batch_norm": "local",
    "optim.backbone_lr_factor": 1.0,
    "optim.upsampler_lr_factor": 1.0,
    "optim.ema_decay": None,
}
"""What the saved state depends on, and its value in checkpoints from before it existed."""
_EPOCH_COURSE = {"optim.seed": 88}
"""The same for a state within an epoch: the order of its rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BestEntry:
    """One of the best checkpoints of a run."""

    metric: str
    """What it was chosen by; smaller is better."""
    value: float
    epoch: int
    step: int
    folder: str
    """Name inside the run's checkpoint folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStart:
    """The beginning of a run, or of a part of it."""

    at: str
    """UTC, ISO 8601."""
    reason: str
    world_size: int
    device: str
    epoch: int = 0
    """Where the run went on: complete epochs."""
    step: int = 0

    @classmethod
    def now(cls, reason: str, world_size: int, device: str) -> RunStart:
        """A start of this moment."""
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(at=moment, reason=reason, world_size=world_size, device=device)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointMeta:
    """What is known about a checkpoint beside its tensors."""

    config: dict[str, Any]
    """The resolved settings of the run as nested plain values."""
    mesh: str
    """Name of the mesh spec."""
    epoch: int
    """Epoch to go on with, from 0; equals the number of complete epochs."""
    step: int
    """Optimizer steps so far."""
    row_in_epoch: int = 0
    """Rows of `epoch`'s order that all ranks together have trained on; 0 at its start."""
    train_rows: str = ""
    """`EpochPlan.rows_text` of the run; empty in checkpoints from before it existed."""
    world_size: int = 1
    """Ranks of the run that wrote it."""
    averaged: int = 0
    """States of the weights in the moving average; 0 where none is kept."""
    loss_scale: dict[str, float] = field(default_factory=dict)
    """State of the fp16 loss scale; empty for other precisions."""
    skipped_steps: tuple[int, int] = (0, 0)
    """Steps left out because they were not finite: in all, and in a row at the end."""
    totals: dict[str, Any] = field(default_factory=dict)
    """Of `RunMeter.state`; empty in checkpoints from before it existed."""
    starts: tuple[RunStart, ...] = ()
    """How the run began, and each time that it went on."""
    bad_rows: tuple[dict[str, Any], ...] = ()
    """Rows that could not be read so far: `split`, `row`, `key` and `reason` of each."""
    best: tuple[BestEntry, ...] = ()
    """Best checkpoints so far, best first, this one included."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Of the validation at this step, where there was one; None where a metric does not exist."""
    validation_left: bool = False
    """Whether the validation at this step was interrupted; a run that goes on begins with it."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of metro_ray, torch and python."""
    format: int = FORMAT


def read_meta(folder: Path, files: Sequence[str] = FILES) -> CheckpointMeta:
    """Read and check `meta.json`.

    Args:
        folder: Of the checkpoint.
        files: That must be there.

    Raises:
        CheckpointError: The folder is not a complete checkpoint, or of a format from the future.
    """
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} is not a complete checkpoint: {', '.join(missing)} missing; expected a "
            f"folder with {', '.join(files)}, such as checkpoints/best of a run"
        )
    try:
        values = json.loads((folder / META).read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            raise CheckpointError(
                f"{folder} has checkpoint format {values['format']}, this version reads up to "
                f"{FORMAT}; install a newer metro_ray"
            )
        if "batch_in_epoch" in values:  # format 2
            rows = values["world_size"] * values["config"]["optim"]["per_gpu_batch_size"]
            values["row_in_epoch"] = values.pop("batch_in_epoch") * rows
        best = tuple(BestEntry(**entry) for entry in values.pop("best"))
        skipped = tuple(values.pop("skipped_steps", (0, 0)))
        starts = tuple(RunStart(**start) for start in values.pop("starts", ()))
        bad_rows = tuple(values.pop("bad_rows", ()))
        return CheckpointMeta(
            **values, best=best, skipped_steps=skipped, starts=starts, bad_rows=bad_rows
        )
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{folder / META} is not a checkpoint's meta data: {error}"
        ) from error


def require_same_architecture(
    meta: CheckpointMeta, model_settings: Mapping[str, Any], mesh: str, folder: Path
) -> None:
    """Refuse a checkpoint whose settings of the network differ, before its tensors are read.

    Args:
        meta: Of the checkpoint.
        model_settings: The `model` part of the run's config as plain values.
        mesh: Name of the run's mesh spec.
        folder: For the message.

    Raises:
        CheckpointError: Names each setting with both values.
    """
    theirs = meta.config.get("model", {})
    pairs: dict[str, tuple[object, object]] = {"model.mesh": (meta.mesh, mesh)}
    for name in ARCHITECTURE:
        pairs[f"model.{name}"] = (_plain(theirs.get(name)), _plain(model_settings.get(name)))
    differing = [f"{key} is {a} there and {b} here" for key, (a, b) in pairs.items() if a != b]
    if differing:
        raise CheckpointError(
            f"checkpoint {folder} is of another architecture: {'; '.join(differing)}. "
            "Use its own settings, or another checkpoint"
        )


def require_same_course(
    meta: CheckpointMeta, settings: Mapping[str, Mapping[str, Any]], folder: Path
) -> None:
    """Refuse to continue a run with other settings of what its state depends on.

    Args:
        meta: Of the checkpoint.
        settings: The run's config as plain values by section.
        folder: For the message.

    Raises:
        CheckpointError: Names each setting with both values.
    """
    differing = []
    course = _COURSE | (_EPOCH_COURSE if meta.row_in_epoch else {})
    for key, default in course.items():
        section, name = key.split(".")
        theirs = meta.config.get(section, {}).get(name, default)
        if theirs != settings[section][name]:
            differing.append(f"{key} is {theirs} there and {settings[section][name]} here")
    if differing:
        raise CheckpointError(
            f"the run of checkpoint {folder} cannot go on with other settings: "
            f"{'; '.join(differing)}. Use its own, or start anew from its weights with "
            "run.resume_checkpoint"
        )


def require_same_rows(meta: CheckpointMeta, train_rows: str, folder: Path) -> None:
    """Refuse to go on in the middle of an epoch over other rows: its order would be another.

    Args:
        meta: Of the checkpoint.
        train_rows: `EpochPlan.rows_text` of the run.
        folder: For the message.

    Raises:
        CheckpointError: Names what the epoch has and had.
    """
    if meta.row_in_epoch and meta.train_rows and meta.train_rows != train_rows:
        raise CheckpointError(
            f"the run of checkpoint {folder} cannot go on: it was saved behind row "
            f"{meta.row_in_epoch} of an epoch over {meta.train_rows}, and data.train_yaml now has "
            f"{train_rows}; rows would be repeated or left out. Use its own training set, or "
            "start anew from its weights with run.resume_checkpoint"
        )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
