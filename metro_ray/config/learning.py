"""The settings of what learns and how: the sections `model` and `optim` of the schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metro_ray.config.checks import Strict, at_least, below_one, positive, require


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig(Strict):
    """The network."""

    mesh: Literal["auto", "smpl", "mano", "anny_body", "anny_hand"] = "auto"
    """Body model whose topology is predicted; auto takes SMPL or MANO where its files are present,
    else the open Anny model, and says so."""
    arch: str = "hrnet-w64"
    """Backbone: hrnet-w64, hrnet (w40), hrnet-w18-small, hrnet-w18, hrnet-w32, hrnet-w48, resnet50,
    or timm/NAME."""
    backbone_weights: str | None = None
    """ImageNet weights of the backbone (.pth or .safetensors); None starts from scratch."""
    backbone_init: Literal["random", "shortcut"] = "random"
    """Start of a backbone without weights: random as published, or each residual block at first
    passes on its input only, which learns faster from few images."""
    grid_init: Literal["random", "template"] = "random"
    """Start of each token's view of the 7 x 7 feature grid (body): METRO's random one, or the cells
    around the token's place in the template, from which neighbouring vertices move together."""
    input_feat_dim: tuple[int, ...] = (2051, 512, 128)
    """Width of the tokens that enter each transformer block."""
    hidden_feat_dim: tuple[int, ...] = (1024, 256, 128)
    """Width inside each transformer block."""
    num_hidden_layers: int = 4
    """Layers of each transformer block."""
    num_attention_heads: int = 4
    """Attention heads of each layer; must divide every hidden_feat_dim."""
    intermediate_size: int | None = None
    """Width of the feed-forward nets; None takes METRO's (body 3072 throughout, hand 4 x hidden).
    METRO's own --intermediate_size changes nothing."""
    drop_out: float = 0.1
    """Dropout of the hidden states."""
    attention_dropout: float = 0.1
    """Dropout of the attention weights (METRO: always 0.1)."""
    output_init: Literal["random", "template"] = "random"
    """Start of the predicted mesh: METRO's random one, or the template, from which offsets are
    learned (a small network then learns in minutes)."""
    upsampling_init: Literal["random", "topology"] = "random"
    """Start of the learned mesh up-sampling: METRO's random one, or interpolation on the mesh."""
    mask_fraction: float | None = None
    """Largest share of tokens masked while training; None takes METRO's (body 0.3, hand 0)."""
    batch_norm: Literal["local", "sync", "frozen"] = "local"
    """BatchNorm while training: each rank's own batch, the batch of all GPUs, or the loaded
    statistics, scale and shift as they are."""
    recompute: Literal["none", "encoders", "backbone", "all"] = "none"
    """Parts whose activations are computed again in the backward pass instead of being kept
    (activation checkpointing): less memory, more time, the same numbers."""

    def __post_init__(self) -> None:
        at_least(1, "model", self, "num_hidden_layers", "num_attention_heads", "intermediate_size")
        below_one("model", self, "drop_out", "attention_dropout", "mask_fraction")
        widths, hidden = self.input_feat_dim, self.hidden_feat_dim
        keys = "model.input_feat_dim and model.hidden_feat_dim"
        require(len(widths) == len(hidden) > 0, keys, "lists of the same length", (widths, hidden))
        rule = "2051 at first (3 coordinates + 2048 image features), then positive"
        fits = widths[0] == 2051 and min(widths) > 0
        require(fits, "model.input_feat_dim", rule, widths)
        heads = self.num_attention_heads
        is_timm = self.arch.startswith("timm/")
        rule = "random for timm backbones, whose blocks are their own"
        fits = not is_timm or self.backbone_init == "random"
        require(fits, "model.backbone_init", rule, self.backbone_init)
        rule = "none or encoders for timm backbones"
        fits = not is_timm or self.recompute in ("none", "encoders")
        require(fits, "model.recompute", rule, self.recompute)
        rule = f"multiples of model.num_attention_heads = {heads}"
        fits = all(width > 0 and width % heads == 0 for width in hidden)
        require(fits, "model.hidden_feat_dim", rule, hidden)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig(Strict):
    """Optimisation."""

    lr: float = 1e-4
    """Highest Adam learning rate."""
    schedule: Literal["metro", "cosine"] = "metro"
    """How it falls: METRO's step by ten after half of the epochs, or half a cosine down to zero."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from zero, whatever the schedule."""
    backbone_lr_factor: float = 1.0
    """Learning rate of the backbone, as a multiple of optim.lr; 0 freezes its weights."""
    upsampler_lr_factor: float = 1.0
    """Learning rate of the mesh up-sampling, as a multiple of optim.lr; 0 keeps it as it starts."""
    epochs: int = 200
    """Passes over the training set."""
    per_gpu_batch_size: int = 30
    """Samples per rank and step; the global batch is this times the ranks."""
    accumulate_steps: int = 1
    """Batches whose gradients are added up for one step: as a batch so many times as large, but for
    BatchNorm, which sees each on its own."""
    clip_grad_norm: float | None = None
    """Longest gradient of a step; a longer one is shortened to it. None (METRO) leaves all."""
    ema_decay: float | None = None
    """Also keep a moving average of the weights, which is what is validated, saved as the model and
    predicted with: each step keeps this share of it (0.999). None trains without."""
    max_nonfinite_steps: int = 20
    """Steps in a row that may be left out because loss or gradient are not finite; one more stops
    the run. (A new fp16 loss scale may need 8 to get from 256 to 1.)"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; bf16 and fp16 are autocast, fp16 with a loss scale."""
    tf32: bool = False
    """Round the factors of float32 products to TF32 (10 bits) on GPUs that can: faster, less
    exact. Changes nothing on CPUs."""
    compile: Literal["none", "default", "max-autotune-no-cudagraphs"] = "none"
    """Mode of torch.compile for the training forward pass; needs a C++ compiler on the ranks."""
    deterministic: bool = False
    """Use only algorithms that give the same bits each time; an operation without one stops."""
    channels_last: bool = True
    """Store images and convolution weights channels-last (same numbers, faster convolutions)."""
    seed: int = 88
    """Seed of the weights, the order of the rows and their augmentation."""

    def __post_init__(self) -> None:
        positive("optim", self, "lr")
        positive("optim", self, "clip_grad_norm")
        below_one("optim", self, "ema_decay")
        at_least(1, "optim", self, "epochs", "per_gpu_batch_size", "accumulate_steps")
        at_least(0, "optim", self, "seed", "warmup_steps", "max_nonfinite_steps")
        at_least(0, "optim", self, "backbone_lr_factor", "upsampler_lr_factor")
