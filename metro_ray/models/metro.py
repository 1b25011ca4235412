"""METRO for bodies and hands: template tokens + image features -> camera, joints, vertices.

"End-to-End Human Pose and Mesh Reconstruction with Transformers" (Lin et al., CVPR 2021). One
network; what differs between body and hand are the numbers of a `MeshSpec`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metro_ray.bodies.spec import MeshSpec
from metro_ray.errors import ConfigError
from metro_ray.models.backbones import FEATURE_DIM, build_backbone
from metro_ray.models.cascade import COORDINATES, Cascade, start_from_template
from metro_ray.models.heads import CameraHead, MeshUpsampler, build_image_tokens
from metro_ray.models.masking import mask_tokens

TOKEN_DIM = COORDINATES + FEATURE_DIM


class MeshPrediction(NamedTuple):
    """What the network says about a batch; metres, root-relative, camera-like axes."""

    camera: Float[Tensor, "B 3"]
    """(s, tx, ty): crop coordinates are s * (xy + t)."""
    joints: Float[Tensor, "B J 3"]
    vertices: tuple[Float[Tensor, "B _ 3"], ...]
    """Coarse to full."""
    attentions: tuple[Float[Tensor, "B heads N N"], ...] | None = None
    """Attention weights of each layer of the last encoder, when asked for."""
    hidden_states: tuple[Float[Tensor, "B N H"], ...] | None = None
    """Embedded input and layer outputs of the last encoder, when asked for."""


class Metro(nn.Module):
    """The network, from parts; `build_metro` makes them from numbers."""

    template: Tensor

    def __init__(
        self,
        *,
        backbone: nn.Module,
        image_tokens: nn.Module,
        cascade: Cascade,
        camera: CameraHead,
        upsampler: MeshUpsampler,
        template_tokens: Float[Tensor, "N 3"],
        num_joints: int,
        camera_tokens: Literal["vertices", "all"],
    ) -> None:
        super().__init__()
        self.num_joints = num_joints
        self.camera_tokens = camera_tokens
        self.backbone = backbone
        self.image_tokens = image_tokens
        self.cascade = cascade
        self.camera = camera
        self.upsampler = upsampler
        self.freeze_batch_norm = False
        """Whether BatchNorm keeps its statistics, its scale and its shift as they are."""
        template = template_tokens.detach().to(torch.float32).clone()
        self.register_buffer("template", template, persistent=False)

    def train(self, mode: bool = True) -> Metro:
        super().train(mode)
        if mode and self.freeze_batch_norm:
            for norm in self.batch_norms():
                norm.eval()
        return self

    def batch_norms(self) -> list[nn.Module]:
        """Every BatchNorm of the network; METRO has them in its backbone only."""
        kind = nn.modules.batchnorm._BatchNorm
        return [module for module in self.modules() if isinstance(module, kind)]

    def recompute(self, parts: Literal["none", "encoders", "backbone", "all"]) -> None:
        """Choose whose activations are computed again in the backward pass instead of kept.

        Raises:
            ConfigError: the backbone cannot do it.
        """
        for encoder in self.cascade.encoders:
            encoder.recompute = parts in ("encoders", "all")  # pyright: ignore
        if parts in ("encoders", "none"):
            return
        if not hasattr(self.backbone, "recompute"):
            raise ConfigError(
                f"model.recompute {parts} is for the backbones hrnet-* and resnet50; use "
                "model.recompute encoders, or one of these backbones"
            )
        self.backbone.recompute = True  # pyright: ignore

    def forward(
        self,
        images: Float[Tensor, "B 3 224 224"],
        token_mask: Float[Tensor, "B N 1"] | None = None,
        return_attention: bool = False,
    ) -> MeshPrediction:
        """Predicts meshes.

        Args:
            images: RGB crops, normalised with ImageNet's mean and standard deviation.
            token_mask: 1 keeps a token, 0 masks it (joints first, then coarse vertices); None
                masks nothing. Applied in training and evaluation mode alike.
            return_attention: Also return attention maps and hidden states of the last encoder.
        """
        features = self.image_tokens(self.backbone(images))
        template = self.template.to(features.dtype).expand(features.shape[0], -1, -1)
        tokens = torch.cat([template, features], dim=2)
        if token_mask is not None:
            tokens = mask_tokens(tokens, token_mask)
        encoded = self.cascade(tokens, return_attention)
        # Coordinates are float32 from here on: bfloat16 would round 1 m to 2 mm.
        with torch.autocast(images.device.type, enabled=False):
            coordinates = encoded.tokens
            joints, coarse = coordinates.split(
                [self.num_joints, coordinates.shape[1] - self.num_joints], dim=1
            )
            camera = self.camera(coarse if self.camera_tokens == "vertices" else coordinates)
            vertices = self.upsampler(coarse)
        return MeshPrediction(camera, joints, vertices, encoded.attentions, encoded.hidden_states)


def build_metro(
    spec: MeshSpec,
    template_tokens: Float[Tensor, "N 3"],
    *,
    arch: str,
    input_feat_dim: Sequence[int],
    hidden_feat_dim: Sequence[int],
    num_hidden_layers: int,
    num_attention_heads: int,
    dropout: float,
    attention_dropout: float = 0.1,
    intermediate_size: int | None = None,
    output_init: Literal["random", "template"] = "random",
    upsampling_init: Literal["random", "topology"] = "random",
    upsampling_matrices: Sequence[Any] | None = None,
) -> Metro:
    """METRO with random weights, initialised as METRO does.

    Args:
        spec: Numbers of the mesh.
        template_tokens: Joints, then coarse vertices of the rest pose, minus its root, metres.
        arch: Backbone, see `backbones.BACKBONES`.
        input_feat_dim: Width of the tokens that enter each encoder; starts with 2051.
        hidden_feat_dim: Width inside each encoder.
        num_hidden_layers: Layers of each encoder.
        num_attention_heads: Heads of each layer.
        dropout: Dropout of hidden states.
        attention_dropout: Dropout of attention weights.
        intermediate_size: Width of the feed-forward nets; None takes METRO's rule for the mesh.
        output_init: Random start, or the template: offsets from it are learned.
        upsampling_init: Random start, or the mesh's own interpolation.
        upsampling_matrices: The interpolation of each step, coarse to full, (fine, coarse).

    Raises:
        ConfigError: unknown backbone, or numbers that do not fit each other.
    """
    if tuple(template_tokens.shape) != (spec.num_tokens, COORDINATES):
        raise ConfigError(
            f"template tokens of {spec.name} must have shape ({spec.num_tokens}, {COORDINATES}), "
            f"got {tuple(template_tokens.shape)}"
        )
    if not input_feat_dim or input_feat_dim[0] != TOKEN_DIM:
        raise ConfigError(
            f"input_feat_dim must start with {TOKEN_DIM} ({COORDINATES} coordinates and "
            f"{FEATURE_DIM} image features), got {list(input_feat_dim)}"
        )
    camera_inputs = spec.num_coarse if spec.camera_tokens == "vertices" else spec.num_tokens
    upsampler = MeshUpsampler(spec.vertex_levels)
    if upsampling_init == "topology":
        upsampler.start_from_topology(upsampling_matrices)
    cascade = Cascade(
        spec.num_tokens,
        input_dims=input_feat_dim,
        hidden_dims=hidden_feat_dim,
        intermediate_size=intermediate_size or spec.intermediate_size,
        num_layers=num_hidden_layers,
        num_heads=num_attention_heads,
        dropout=dropout,
        attention_dropout=attention_dropout,
    )
    if output_init == "template":
        start_from_template(cascade)
    return Metro(
        backbone=build_backbone(arch),
        image_tokens=build_image_tokens(spec.image_feature, spec.num_tokens),
        cascade=cascade,
        camera=CameraHead(camera_inputs, spec.camera_hidden),
        upsampler=upsampler,
        template_tokens=template_tokens,
        num_joints=spec.num_joints,
        camera_tokens=spec.camera_tokens,
    )
