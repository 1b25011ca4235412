"""The settings of a run as one tree of frozen dataclasses: the only list of what can be set.

Every setting has a dotted key (`optim.lr`), used alike on the command line, in YAML presets and as a
search key of a sweep. METRO's own flags are a second spelling of some of them (`flags.py`). Values are
checked where they are made and never corrected; derived values are properties.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from metro_ray.errors import ConfigError

Kind = Literal["body", "hand"]

_FORBID_UNKNOWN: dict[str, Any] = {"extra": "forbid"}


def _require(condition: bool, key: str, expected: str, got: object) -> None:
    if not condition:
        raise ConfigError(f"{key} must be {expected}, got {got!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetsConfig:
    __pydantic_config__ = _FORBID_UNKNOWN

    root: str | None = None
    """Folder of the licensed model files; None looks at METRO_RAY_ASSETS, then ./assets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    __pydantic_config__ = _FORBID_UNKNOWN

    train_yaml: str | None = None
    """Data set YAML (METRO's TSV layout) to train on."""
    val_yaml: str | None = None
    """Data set YAML to validate on."""
    root: str = "datasets"
    """Folder that relative YAML paths are looked up in when they do not exist as given (METRO's data_dir)."""
    loader_workers: int = 4
    """Parallel decoding tasks per rank (METRO's --num_workers); bounded by the CPUs of the cluster."""
    max_bad_rows: int = 100
    """Rows that may be skipped because they cannot be decoded before the run stops with the list."""
    crop: Literal["metro", "fast"] = "metro"
    """How a crop is made: METRO's float64 arithmetic, or float32/uint8 without its detours."""
    image_size: int = 224
    """Side of the network's input in pixels; METRO's grid tokens need 224."""
    block_rows: int = 64
    """Rows that one read task decodes at a time."""
    prefetch_batches: int = 2
    """Batches kept ready ahead of the step."""
    drop_tail: bool = False
    """Leave out the last, incomplete global batch of an epoch instead of splitting it over the ranks."""

    def __post_init__(self) -> None:
        _require(self.loader_workers >= 0, "data.loader_workers", ">= 0", self.loader_workers)
        _require(self.max_bad_rows >= 0, "data.max_bad_rows", ">= 0", self.max_bad_rows)
        _require(self.block_rows >= 1, "data.block_rows", ">= 1", self.block_rows)
        _require(self.prefetch_batches >= 0, "data.prefetch_batches", ">= 0", self.prefetch_batches)
        _require(self.image_size == 224, "data.image_size", "224", self.image_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    __pydantic_config__ = _FORBID_UNKNOWN

    flip_probability: float = 0.5
    """Chance of mirroring a sample left to right (bodies only)."""
    pixel_gain: float = 0.4
    """Each colour channel is multiplied by a number drawn from 1 -/+ this."""
    rotation_deg: float = 30.0
    """Standard deviation of the in-plane rotation; clipped at twice this."""
    rotation_probability: float = 0.4
    """Chance that a sample is rotated at all."""
    scale: float = 0.25
    """Standard deviation of the box scale around 1; clipped at this."""

    def __post_init__(self) -> None:
        for name in ("flip_probability", "rotation_probability"):
            value = getattr(self, name)
            _require(0.0 <= value <= 1.0, f"augment.{name}", "within [0, 1]", value)
        _require(0.0 <= self.pixel_gain < 1.0, "augment.pixel_gain", "within [0, 1)", self.pixel_gain)
        _require(self.rotation_deg >= 0.0, "augment.rotation_deg", ">= 0", self.rotation_deg)
        _require(0.0 <= self.scale < 1.0, "augment.scale", "within [0, 1)", self.scale)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    __pydantic_config__ = _FORBID_UNKNOWN

    mesh: Literal["auto", "smpl", "mano", "anny_body", "anny_hand"] = "auto"
    """Body model whose topology is predicted; auto takes SMPL or MANO where its files are present,
    else the open Anny model, and says so."""
    arch: str = "hrnet-w64"
    """Backbone: hrnet-w64, hrnet (w40), hrnet-w18-small, hrnet-w18, -w32, -w48, resnet50, timm/NAME."""
    backbone_weights: str | None = None
    """ImageNet weights of the backbone (.pth or .safetensors); None starts from scratch."""
    input_feat_dim: tuple[int, ...] = (2051, 512, 128)
    """Width of the tokens that enter each transformer block."""
    hidden_feat_dim: tuple[int, ...] = (1024, 256, 128)
    """Width inside each transformer block."""
    num_hidden_layers: int = 4
    """Layers of each transformer block."""
    num_attention_heads: int = 4
    """Attention heads of each layer; must divide every hidden_feat_dim."""
    drop_out: float = 0.1
    """Dropout of the hidden states."""
    attention_dropout: float = 0.1
    """Dropout of the attention weights (METRO: always 0.1)."""
    upsampling_init: Literal["random", "topology"] = "random"
    """Start of the learned mesh up-sampling: METRO's random one, or the mesh's own interpolation."""
    mask_fraction: float | None = None
    """Largest share of tokens masked while training; None takes METRO's (body 0.3, hand 0)."""

    def __post_init__(self) -> None:
        _require(self.num_hidden_layers >= 1, "model.num_hidden_layers", ">= 1", self.num_hidden_layers)
        _require(
            self.num_attention_heads >= 1, "model.num_attention_heads", ">= 1", self.num_attention_heads
        )
        _require(
            len(self.input_feat_dim) == len(self.hidden_feat_dim) > 0,
            "model.input_feat_dim and model.hidden_feat_dim",
            "lists of the same length",
            (self.input_feat_dim, self.hidden_feat_dim),
        )
        _require(
            self.input_feat_dim[0] == 2051,
            "model.input_feat_dim",
            "2051 at first (3 coordinates + 2048 image features)",
            self.input_feat_dim[0],
        )
        for width in self.hidden_feat_dim:
            _require(
                width > 0 and width % self.num_attention_heads == 0,
                "model.hidden_feat_dim",
                f"multiples of model.num_attention_heads = {self.num_attention_heads}",
                width,
            )
        for name in ("drop_out", "attention_dropout"):
            _require(0.0 <= getattr(self, name) < 1.0, f"model.{name}", "within [0, 1)", getattr(self, name))
        if self.mask_fraction is not None:
            _require(
                0.0 <= self.mask_fraction < 1.0, "model.mask_fraction", "within [0, 1)", self.mask_fraction
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    __pydantic_config__ = _FORBID_UNKNOWN

    lr: float = 1e-4
    """Initial Adam learning rate; multiplied by 0.1 after half of the epochs."""
    epochs: int = 200
    """Passes over the training set."""
    per_gpu_batch_size: int = 30
    """Samples per rank and step; the global batch is this times the ranks."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass; bf16 is autocast."""
    channels_last: bool = True
    """Store images and convolution weights channels-last (same numbers, faster convolutions)."""
    seed: int = 88
    """Seed of the weights, the order of the rows and their augmentation."""

    def __post_init__(self) -> None:
        _require(self.lr > 0, "optim.lr", "> 0", self.lr)
        _require(self.epochs >= 1, "optim.epochs", ">= 1", self.epochs)
        _require(self.per_gpu_batch_size >= 1, "optim.per_gpu_batch_size", ">= 1", self.per_gpu_batch_size)
        _require(self.seed >= 0, "optim.seed", ">= 0", self.seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    __pydantic_config__ = _FORBID_UNKNOWN

    vertices: float = 100.0
    """Weight of the vertex loss and, as in METRO, of the 2D keypoint loss."""
    joints: float = 1000.0
    """Weight of the 3D joint loss."""
    levels: tuple[float, ...] = (0.33, 0.33, 0.33)
    """Share of each mesh level in the vertex loss, coarse to full."""

    def __post_init__(self) -> None:
        for name, value in (("vertices", self.vertices), ("joints", self.joints)):
            _require(value >= 0, f"loss.{name}", ">= 0", value)
        _require(
            len(self.levels) > 0 and all(w >= 0 for w in self.levels), "loss.levels", ">= 0", self.levels
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    __pydantic_config__ = _FORBID_UNKNOWN

    per_gpu_batch_size: int = 30
    """Samples per rank and step while evaluating."""
    only: bool = False
    """Evaluate the checkpoint and stop (METRO's --run_eval_only)."""
    gallery_images: int = 12
    """Validation images drawn into the gallery after training."""
    multiscale: bool = False
    """Hand test-time augmentation over scales and rotations."""
    scale_factor: float = 1.0
    """Box scale factor while evaluating (METRO's --sc)."""
    rotation_deg: float = 0.0
    """In-plane rotation while evaluating (METRO's --rot)."""
    aml: bool = False
    """Write predictions without subtracting the wrist (METRO's --aml_eval)."""

    def __post_init__(self) -> None:
        _require(self.per_gpu_batch_size >= 1, "eval.per_gpu_batch_size", ">= 1", self.per_gpu_batch_size)
        _require(self.gallery_images >= 0, "eval.gallery_images", ">= 0", self.gallery_images)
        _require(self.scale_factor > 0, "eval.scale_factor", "> 0", self.scale_factor)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    __pydantic_config__ = _FORBID_UNKNOWN

    output_dir: str = "output/"
    """Folder of the run: checkpoints, metrics, curves, gallery, result.json."""
    resume_checkpoint: str | None = None
    """Weights to start from: one of our checkpoint folders or a METRO state_dict.bin."""
    allow_mismatch: bool = False
    """Load weights although some of their keys do not match (they are listed)."""
    log_every: int = 500
    """Steps between two log lines."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    keep_checkpoints: int = 1
    """Best checkpoints kept beside the last one."""

    def __post_init__(self) -> None:
        _require(self.log_every >= 1, "run.log_every", ">= 1", self.log_every)
        _require(self.keep_checkpoints >= 1, "run.keep_checkpoints", ">= 1", self.keep_checkpoints)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingConfig:
    __pydantic_config__ = _FORBID_UNKNOWN

    train_workers: int | None = None
    """Ranks; None takes one per GPU of the cluster, or one where it has none."""
    cpus_per_worker: float | None = None
    """Logical CPUs of each rank; None divides what the cluster has and leaves a share for data tasks."""
    start_timeout_s: float = 120.0
    """How long to wait for the ranks to start before giving up."""

    def __post_init__(self) -> None:
        if self.train_workers is not None:
            _require(self.train_workers >= 1, "scaling.train_workers", ">= 1", self.train_workers)
        if self.cpus_per_worker is not None:
            _require(self.cpus_per_worker > 0, "scaling.cpus_per_worker", "> 0", self.cpus_per_worker)
        _require(self.start_timeout_s > 0, "scaling.start_timeout_s", "> 0", self.start_timeout_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Everything a training or evaluation run needs; see `load.load_config` for how it is made."""

    __pydantic_config__ = _FORBID_UNKNOWN

    kind: Kind
    assets: AssetsConfig = field(default_factory=AssetsConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    run: RunConfig = field(default_factory=RunConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)

    def __post_init__(self) -> None:
        other = ("mano", "anny_hand") if self.kind == "body" else ("smpl", "anny_body")
        _require(
            self.model.mesh not in other, "model.mesh", f"a {self.kind} model or auto", self.model.mesh
        )
