"""Everything about a run that can be found wrong before a cluster is started."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metro_ray.cluster.run_folder import (
    last_checkpoint,
    last_checkpoint_stamp,
    require_writable,
)
from metro_ray.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig

_LOG = logging.getLogger(__name__)
_SYNTH_SEEDS = {"train": 1, "val": 2}
"""People of the validation set are not those of the training set."""


class CheckedRun(NamedTuple):
    """A run that may start."""

    config: TrainConfig
    """With an absolute output folder and assets folder."""
    mesh: str
    """Body model of the predicted mesh."""
    mesh_reason: str
    stale_checkpoint: str | None
    """Stamp of a checkpoint of an earlier run in the output folder, which this run replaces."""


def check_run(config: TrainConfig) -> CheckedRun:
    """Open, without a cluster, what the ranks will open; render synthetic data that is missing.

    Raises:
        ConfigError: Settings that contradict each other, or a tracker that is not installed.
        AssetNotFoundError, AssetError: The body model.
        DataError: A data set.
        CheckpointError: Weights to start from.
    """
    from metro_ray.bodies import load_body, resolve_mesh
    from metro_ray.bodies.assets import assets_folder
    from metro_ray.training.builders import require_fitting_mesh
    from metro_ray.training.data_source import open_split
    from metro_ray.training.trackers import require_trackers

    _check_settings(config)
    require_trackers(config)
    assets = str(assets_folder(config.assets.root).absolute())
    output_dir = Path(config.run.output_dir).absolute()
    config = replace(
        config,
        assets=replace(config.assets, root=assets),
        run=replace(config.run, output_dir=str(output_dir)),
    )
    mesh, reason = resolve_mesh(config.kind, config.model.mesh, config.assets.root)
    _LOG.info("%s", reason)
    spec = load_body(mesh, config.assets.root).spec
    require_fitting_mesh(config.model, spec)
    for split in ("train", "val"):
        _render_missing(config, split)
        dataset = open_split(config, spec, split)
        if dataset is not None:
            _LOG.info("%s: %s", split, dataset.describe())
    _check_weights(config, mesh)
    require_writable(output_dir)
    stale = None if config.eval.only else _check_earlier_run(config, mesh, output_dir)
    return CheckedRun(config, mesh, reason, stale)


def _check_earlier_run(config: TrainConfig, mesh: str, output_dir: Path) -> str | None:
    """Stamp of a checkpoint in the folder that the run will not go on from; None without one.

    Raises:
        ConfigError: There is an earlier run, and nothing says what to do with it.
        CheckpointError: The run cannot go on from it with these settings.
    """
    from dataclasses import asdict

    from metro_ray.training.checkpoint_meta import (
        read_meta,
        require_same_architecture,
        require_same_course,
    )
    from metro_ray.training.upload import RunUpload

    folder = last_checkpoint(output_dir)
    if config.run.upload_to is not None:
        upload = RunUpload(config.run.upload_to)
        if config.run.resume and folder is None:
            folder = upload.fetch_last(output_dir / "checkpoints")
        elif folder is None and not config.run.overwrite and upload.holds_run():
            raise ConfigError(
                f"run.upload_to {config.run.upload_to} holds an earlier run: --run.resume true "
                "goes on with it, --run.overwrite true replaces it, or choose another place"
            )
    if folder is None:
        return None
    if config.run.resume:
        meta, settings = read_meta(folder), asdict(config)
        require_same_architecture(meta, settings["model"], mesh, folder)
        require_same_course(meta, settings, folder)
        return None
    if config.run.overwrite:
        return last_checkpoint_stamp(output_dir)
    raise ConfigError(
        f"run.output_dir {output_dir} holds an earlier run (its last checkpoint is {folder.name}): "
        "--run.resume true goes on with it, --run.overwrite true replaces it, or choose another "
        "folder"
    )


def _check_settings(config: TrainConfig) -> None:
    if config.eval.multiscale or config.eval.aml:
        raise ConfigError(
            "--multiscale_inference and --aml_eval change prediction files, which training and "
            f"evaluation do not write: use jobs/predict_{config.kind}.py, or leave them out"
        )
    if config.eval.only and config.data.val_yaml is None:
        raise ConfigError("eval.only needs a data set to evaluate on: give --val_yaml")
    starts = (config.model.backbone_weights, config.run.resume_checkpoint)
    if config.model.batch_norm == "frozen" and not config.eval.only and starts == (None, None):
        raise ConfigError(
            "model.batch_norm frozen keeps the statistics of loaded weights, and none are loaded: "
            "give model.backbone_weights or --resume_checkpoint, or use model.batch_norm local"
        )
    if not config.eval.only and config.data.train_yaml is None:
        raise ConfigError("there is nothing to train on: give --train_yaml (or --preset demo)")


def _render_missing(config: TrainConfig, split: str) -> None:
    """Render the split's synthetic data set if it is asked for and not there.

    One that is there must have been rendered with the same settings.
    """
    data = config.data
    name = data.train_yaml if split == "train" else data.val_yaml
    number = data.synth_train if split == "train" else data.synth_val
    if name is None or number == 0 or (split == "train" and config.eval.only):
        return
    path = Path(name)
    was_rendered = path.with_name(f"{path.stem}.synth.json").is_file()
    is_there = path.is_file() or (Path(data.root) / path).is_file()
    if is_there and not was_rendered:
        return
    from metro_ray.data.synth import run_synth

    if not is_there:
        _LOG.info("rendering %d synthetic samples into %s", number, path.parent)
    run_synth(
        config.kind,
        number,
        path.parent,
        _SYNTH_SEEDS[split],
        view=data.synth_view,
        setting=data.synth_setting,
        yaml_name=path.stem,
    )


def _check_weights(config: TrainConfig, mesh: str) -> None:
    from dataclasses import asdict

    from metro_ray.training.checkpoint_meta import read_meta, require_same_architecture

    backbone, start = config.model.backbone_weights, config.run.resume_checkpoint
    for key, name in (("model.backbone_weights", backbone), ("run.resume_checkpoint", start)):
        if name is not None and not Path(name).exists():
            raise CheckpointError(f"{key}: {Path(name).absolute()} does not exist")
    if start is not None and Path(start).is_dir() and not config.run.allow_mismatch:
        meta = read_meta(Path(start))
        require_same_architecture(meta, asdict(config.model), mesh, Path(start))
