"""From settings to objects: the one place that unpacks a config into `build_metro` and the losses.

The log lines are METRO's (`run_metro_bodymesh.py`, main), in its order.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metro_ray.errors import ConfigError
from metro_ray.losses import LossWeights
from metro_ray.models import Metro, build_metro
from metro_ray.models.blocks import start_from_shortcuts
from metro_ray.models.cascade import intermediate_dim
from metro_ray.models.heads import GridTokens
from metro_ray.models.parameters import count_parameters
from metro_ray.models.weights_io import load_backbone_weights, load_weights
from metro_ray.training.arithmetic import compiled
from metro_ray.training.checkpoint_meta import META, read_meta, require_same_architecture
from metro_ray.training.logs import METRO

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.bodies.spec import MeshSpec
    from metro_ray.config.schema import ModelConfig, TrainConfig
    from metro_ray.training.context import WorkerContext

_BERT_BASE = {
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
"""The configuration file that METRO starts from; it logs what differs."""


def build_model(config: TrainConfig, body: BodyModel) -> Metro:
    """METRO as the config describes it, with random weights or those of `model.backbone_weights`.

    Args:
        config: Of the run.
        body: Gives the template, and the mesh's interpolation for `upsampling_init: topology`.

    Raises:
        ConfigError: Unknown backbone, or numbers that do not fit each other or the body model.
    """
    settings = config.model
    require_fitting_mesh(settings, body.spec)
    _log_encoders(settings, body.spec)
    from_topology = settings.upsampling_init == "topology"
    model = build_network(
        settings,
        body.spec,
        body.template_tokens(),
        output_init=settings.output_init,
        upsampling_init=settings.upsampling_init,
        upsampling_matrices=body.upsampling_matrices() if from_topology else None,
    )
    if isinstance(model.image_tokens, GridTokens) and settings.grid_init == "template":
        model.image_tokens.start_from_template(body.template_tokens())
    model.recompute(settings.recompute)
    model.freeze_batch_norm = settings.batch_norm == "frozen"
    _load_backbone(model, config)
    counts = count_parameters(model)
    METRO.info("Transformers total parameters: %d", counts.metro_transformers)
    METRO.info("Backbone total parameters: %d", counts.metro_backbone)
    METRO.info(counts.text)
    return model


def build_network(
    settings: ModelConfig, spec: MeshSpec, template_tokens: Float[Tensor, "N 3"], **starts: Any
) -> Metro:
    """The network of these settings for a mesh, nothing loaded.

    Args:
        settings: Backbone, widths, layers, dropout.
        spec: Mesh that is predicted.
        template_tokens: Joints and coarse vertices of the template, metres.
        starts: Of `build_metro`: how weights start.

    Raises:
        ConfigError: Unknown backbone, or numbers that do not fit each other.
    """
    return build_metro(
        spec,
        template_tokens,
        arch=settings.arch,
        input_feat_dim=settings.input_feat_dim,
        hidden_feat_dim=settings.hidden_feat_dim,
        num_hidden_layers=settings.num_hidden_layers,
        num_attention_heads=settings.num_attention_heads,
        dropout=settings.drop_out,
        attention_dropout=settings.attention_dropout,
        intermediate_size=settings.intermediate_size,
        **starts,
    )


def prepare_model(model: Metro, config: TrainConfig, worker: WorkerContext) -> nn.Module:
    """The model as a step runs it: memory format, BatchNorm, ranks, compiler.

    Raises:
        ConfigError: `model.batch_norm sync` on ranks without GPUs.
        ResourceError: `optim.compile` without a compiler.
    """
    if config.optim.channels_last:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if config.model.batch_norm == "frozen":
        for norm in model.batch_norms():
            norm.requires_grad_(False)
    if config.model.batch_norm == "sync":
        if worker.device.type == "cpu" and worker.world_size > 1:
            raise ConfigError(
                f"model.batch_norm sync needs GPUs, and these {worker.world_size} ranks compute on "
                "CPUs: use model.batch_norm local, or one rank (scaling.train_workers 1)"
            )
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return compiled(worker.wrap(model), config.optim.compile, worker.device)


def require_fitting_mesh(settings: ModelConfig, spec: MeshSpec) -> None:
    """Refuse settings of the network that the mesh has no use for.

    Raises:
        ConfigError: `model.grid_init template` where tokens do not choose from the feature grid.
    """
    if settings.grid_init == "template" and spec.image_feature != "grid":
        raise ConfigError(
            f"model.grid_init template is for bodies: {spec.name} averages the feature grid for "
            "all its tokens; use model.grid_init random"
        )


def load_start_weights(model: Metro, config: TrainConfig, spec: MeshSpec) -> None:
    """Load `run.resume_checkpoint`, if given: a METRO state dict or one of our folders.

    As in METRO this takes the weights only; the optimizer and the schedule start anew.

    Raises:
        CheckpointError: Unreadable, unsafe, or of another architecture.
    """
    path = config.run.resume_checkpoint
    if path is None:
        if config.eval.only:
            METRO.warning(
                "Evaluating weights from scratch: give run.resume_checkpoint a checkpoint"
            )
        return
    METRO.info("Loading state dict from checkpoint %s", path)
    folder = Path(path)
    if (folder / META).is_file() and not config.run.allow_mismatch:
        require_same_architecture(read_meta(folder), asdict(config.model), spec.name, folder)
    report = load_weights(model, folder, allow_mismatch=config.run.allow_mismatch)
    if not report.matches:
        METRO.warning("Not all of %s was used:\n%s", path, report.differences())


def loss_weights(config: TrainConfig, spec: MeshSpec) -> LossWeights:
    """The loss weights of a run.

    Raises:
        ConfigError: `loss.levels` does not have one share per mesh level.
    """
    if len(config.loss.levels) != len(spec.vertex_levels):
        raise ConfigError(
            f"loss.levels has {len(config.loss.levels)} shares, but {spec.name} has "
            f"{len(spec.vertex_levels)} mesh levels {spec.vertex_levels}: give one share per level"
        )
    return LossWeights(
        joints=config.loss.joints, vertices=config.loss.vertices, levels=config.loss.levels
    )


def _load_backbone(model: Metro, config: TrainConfig) -> None:
    """Fill the backbone and say so; METRO says "loading" even where its file is missing."""
    arch, weights = config.model.arch, config.model.backbone_weights
    if config.model.backbone_init == "shortcut" and not start_from_shortcuts(model.backbone):
        raise ConfigError(
            f"model.backbone_init shortcut changes nothing in {arch}, which has no residual block "
            "of ours; use model.backbone_init random, or a backbone hrnet-* or resnet50"
        )
    if weights is None:
        METRO.info("Init backbone %s from scratch.", arch)
        return
    if arch == "hrnet" or arch.startswith("hrnet-"):
        width = "w40" if arch == "hrnet" else arch.removeprefix("hrnet-")
        METRO.info("=> loading hrnet-v2-%s model", width)
    else:
        METRO.info("=> using pre-trained model '%s'", arch)
    load_backbone_weights(model, weights, allow_mismatch=config.run.allow_mismatch)


def _log_encoders(settings: ModelConfig, spec: MeshSpec) -> None:
    for hidden in settings.hidden_feat_dim:
        wanted = {
            "num_hidden_layers": settings.num_hidden_layers,
            "hidden_size": hidden,
            "num_attention_heads": settings.num_attention_heads,
        }
        rule = settings.intermediate_size or spec.intermediate_size
        wanted["intermediate_size"] = intermediate_dim(rule, hidden)
        for name, value in wanted.items():
            if value != _BERT_BASE[name]:
                METRO.info("Update config parameter %s: %d -> %d", name, _BERT_BASE[name], value)
        METRO.info("Init model from scratch.")
