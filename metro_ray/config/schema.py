"""The settings of a run as one tree of frozen dataclasses: the only list of what can be set.

Every setting has a dotted key (`optim.lr`), used alike on the command line, in YAML presets and as
a search key of a sweep. METRO's own flags are a second spelling of some of them (`flags.py`).
Values are checked where they are made and never corrected. The sections `model` and `optim` are in
`learning.py`, `views` in `views.py`.

The defaults written here are METRO's for bodies; where METRO's hand parser has others, `flags.py`
holds them and `load.load_config("hand")` applies them. The text under a field is its --help.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from metro_ray.config.checks import Strict, at_least, below_one, positive, require
from metro_ray.config.learning import ModelConfig, OptimConfig
from metro_ray.config.views import ViewsConfig

Kind = Literal["body", "hand"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetsConfig(Strict):
    """Licensed model files."""

    root: str | None = None
    """Folder of the licensed model files; None looks at METRO_RAY_ASSETS, then ./assets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig(Strict):
    """Data sets and how they are read."""

    train_yaml: str | None = None
    """Data set to train on: a YAML of METRO's TSV layout or of a mixture, or a Parquet data set."""
    val_yaml: str | None = None
    """The same to validate on; every row counts once, whatever the weights of a mixture."""
    synth_train: int = 0
    """Samples of the open body model to render into train_yaml's folder where it does not exist."""
    synth_val: int = 0
    """The same for val_yaml."""
    synth_view: Literal["wide", "full", "front"] = "wide"
    """Viewing directions of rendered samples, see `metro-ray synth --view`."""
    synth_setting: Literal["varied", "studio"] = "varied"
    """What is around rendered people or hands, see `metro-ray synth --setting`."""
    root: str = "datasets"
    """Folder in which a YAML path is looked up when it does not exist as given."""
    loader_workers: int = 4
    """Parallel decoding tasks per rank; bounded by the CPUs of the cluster."""
    max_bad_rows: int = 100
    """Unreadable rows that may be skipped; one more stops the run with the list of them."""
    crop: Literal["metro", "fast"] = "metro"
    """How a crop is made: METRO's float64 arithmetic, or float32/uint8 without its detours."""
    image_size: int = 224
    """Side of the network's input in pixels; METRO's grid tokens need 224."""
    block_rows: int = 64
    """Rows that one read task decodes at a time."""
    prefetch_batches: int = 2
    """Batches kept ready ahead of the step."""
    drop_tail: bool = False
    """Leave out an epoch's last, incomplete global batch instead of sharing it among the ranks."""

    def __post_init__(self) -> None:
        at_least(0, "data", self, "loader_workers", "max_bad_rows", "prefetch_batches")
        at_least(0, "data", self, "synth_train", "synth_val")
        at_least(1, "data", self, "block_rows")
        require(self.image_size == 224, "data.image_size", "224", self.image_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig(Strict):
    """Random changes of training samples (METRO's constants)."""

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
            require(0 <= value <= 1, f"augment.{name}", "within [0, 1]", value)
        at_least(0, "augment", self, "rotation_deg")
        below_one("augment", self, "pixel_gain", "scale")


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig(Strict):
    """Weights of the losses."""

    vertices: float = 100.0
    """Weight of the vertex loss and, as in METRO, of the 2D keypoint loss."""
    joints: float = 1000.0
    """Weight of the 3D joint loss."""
    levels: tuple[float, ...] = (0.33, 0.33, 0.33)
    """Share of each mesh level in the vertex loss, coarse to full (METRO's flags: full first)."""

    def __post_init__(self) -> None:
        at_least(0, "loss", self, "vertices", "joints")
        fits = len(self.levels) > 0 and all(0 <= w < math.inf for w in self.levels)
        require(fits, "loss.levels", "one number >= 0 for each mesh level", self.levels)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig(Strict):
    """Evaluation."""

    per_gpu_batch_size: int = 30
    """Samples per rank and step while evaluating."""
    only: bool = False
    """Evaluate the checkpoint and stop (METRO's --run_eval_only)."""
    protocol: Literal["auto", "h36m_p2", "3dpw", "freihand", "open"] = "auto"
    """Under which name figures are reported; auto tells it by the name of data.val_yaml. It changes
    no figure (see docs/evaluation.md)."""
    gallery_images: int = 12
    """Validation images drawn into the gallery after training."""
    pictures_every: int = 1
    """Epochs between two pictures of predictions (pictures/epoch-NNN.png); 0 draws none."""
    multiscale: bool = False
    """Test-time augmentation over scales and rotations in prediction jobs, see views."""
    scale_factor: float = 1.0
    """Box scale factor while evaluating (METRO's --sc)."""
    rotation_deg: float = 0.0
    """In-plane rotation while evaluating (METRO's --rot)."""
    aml: bool = False
    """Write predictions without subtracting the wrist (METRO's --aml_eval)."""

    def __post_init__(self) -> None:
        at_least(1, "eval", self, "per_gpu_batch_size")
        at_least(0, "eval", self, "gallery_images", "pictures_every")
        positive("eval", self, "scale_factor")
        degrees = self.rotation_deg
        require(math.isfinite(degrees), "eval.rotation_deg", "a finite number", degrees)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig(Strict):
    """Where a run starts from, computes and writes."""

    output_dir: str = "output/"
    """Folder of the run: checkpoints, metrics, report, gallery, result.json."""
    preset: str | None = field(default=None, compare=False)
    """Set by --preset: where the settings come from, for the report; no setting by itself."""
    resume_checkpoint: str | None = None
    """Weights to start from: one of our checkpoint folders or a METRO state_dict.bin."""
    resume: bool = False
    """Go on with the run in output_dir from its last checkpoint; where there is none, start it."""
    overwrite: bool = False
    """Replace an earlier run in output_dir; without this (or resume) it is refused."""
    max_failures: int = 3
    """How often a run is started again from its last checkpoint after losing ranks."""
    allow_mismatch: bool = False
    """Load weights although some of their keys do not match (they are listed)."""
    log_every: int = 1000
    """Steps between two log lines."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    keep_checkpoints: int = 1
    """Best checkpoints kept beside the last one."""
    checkpoint_every: int | None = None
    """Steps between two checkpoints inside an epoch; None writes them at epoch ends only."""
    background_checkpoints: bool = True
    """Write checkpoints while training goes on; takes the memory of one checkpoint."""
    trackers: tuple[str, ...] = ()
    """Where else numbers go: mlflow, wandb or both (extras of the same names); they are set up by
    their own variables, such as MLFLOW_TRACKING_URI and WANDB_MODE."""
    experiment: str = "metro-ray"
    """MLflow experiment and W&B project that the run appears in."""
    upload_to: str | None = None
    """URL (s3://bucket/run, any fsspec one) to which checkpoints are copied as they are written,
    and the rest of the run's folder at its end; run.resume takes the last one from there where
    output_dir has none."""

    def __post_init__(self) -> None:
        at_least(1, "run", self, "log_every", "keep_checkpoints", "checkpoint_every")
        at_least(0, "run", self, "max_failures")
        known = set(self.trackers) <= {"mlflow", "wandb"}
        require(known, "run.trackers", "a list of mlflow and wandb", list(self.trackers))
        require(bool(self.experiment.strip()), "run.experiment", "a name", self.experiment)
        together = not (self.resume and self.overwrite)
        require(together, "run.overwrite", "false with run.resume true", True)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingConfig(Strict):
    """The share of the cluster."""

    train_workers: int | None = None
    """Ranks; None takes one per GPU of the cluster, or one where it has none."""
    min_train_workers: int | None = None
    """Start (again, after a failure) with fewer ranks where there is no place for all, down to
    this many; None is all or nothing."""
    cpus_per_worker: float | None = None
    """Logical CPUs of each rank; None leaves a share of the cluster's CPUs for data tasks."""
    start_timeout_s: float = 120.0
    """How long to wait for the ranks to start before giving up."""
    wait_for_machines_s: float = 0.0
    """How long to wait for machines where train_workers asks for more ranks than the cluster has
    place for; its autoscaler is asked for them."""

    def __post_init__(self) -> None:
        at_least(1, "scaling", self, "train_workers", "min_train_workers")
        if self.train_workers is not None and self.min_train_workers is not None:
            fits = self.min_train_workers <= self.train_workers
            most = f"at most scaling.train_workers ({self.train_workers})"
            require(fits, "scaling.min_train_workers", most, self.min_train_workers)
        positive("scaling", self, "cpus_per_worker", "start_timeout_s")
        at_least(0, "scaling", self, "wait_for_machines_s")
        rule = "0 without scaling.train_workers, which says what to wait for"
        fits = self.train_workers is not None or self.wait_for_machines_s == 0
        require(fits, "scaling.wait_for_machines_s", rule, self.wait_for_machines_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(Strict):
    """Everything a training or evaluation run needs; see `load.load_config` for how it is made."""

    kind: Kind
    assets: AssetsConfig = field(default_factory=AssetsConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    run: RunConfig = field(default_factory=RunConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)

    def __post_init__(self) -> None:
        others = ("mano", "anny_hand") if self.kind == "body" else ("smpl", "anny_body")
        fits = self.model.mesh not in others
        require(fits, "model.mesh", f"a {self.kind} model or auto", self.model.mesh)
        fits = self.optim.compile == "none" or self.model.recompute == "none"
        rule = "none where optim.compile is on (PyTorch compiles no recomputation with BatchNorm)"
        require(fits, "model.recompute", rule, self.model.recompute)
        theirs = ("h36m_p2", "3dpw") if self.kind == "hand" else ("freihand",)
        rule = f"a protocol of a {self.kind}, open or auto"
        require(self.eval.protocol not in theirs, "eval.protocol", rule, self.eval.protocol)
        fits = self.kind == "hand" or not self.eval.aml
        require(fits, "eval.aml", "false for bodies (it belongs to hands)", True)
