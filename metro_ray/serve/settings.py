"""What can be set about serving: the `args:` of a Serve YAML, the options of `metro-ray serve`.

One frozen model validates all of it before anything starts; an unknown field is an error that names
it. What may change while the service runs is a `ModelChoice`, Serve's `user_config`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from metro_ray.errors import ConfigError
from metro_ray.serve.schema import Task


class Settings(BaseModel):
    """Base of all settings: frozen, typos are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelChoice(Settings):
    """Which weights answer; may change while the service runs."""

    checkpoint: str
    """Checkpoint folder, run folder (its best), `pointers.json`, or an fsspec URL of one."""
    candidate: str | None = None
    """A second checkpoint that answers a share of the requests."""
    candidate_share: float = Field(default=0.0, ge=0, le=1)
    follow_s: float | None = Field(default=None, ge=1)
    """Look this often for what `checkpoint` names now (a run's best changes); null: never."""

    @model_validator(mode="after")
    def _share_needs_candidate(self) -> ModelChoice:
        if self.candidate_share > 0 and self.candidate is None:
            raise ValueError("candidate_share is above 0 but no candidate is named")
        return self


class Replicas(Settings):
    """How many copies of a model run, and when there are more or fewer."""

    min_replicas: int = Field(default=1, ge=0)
    """0 lets the last one go when nobody asks; the next request then waits for the start."""
    max_replicas: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=8, gt=0)
    """Requests that a replica should have in work or waiting; more or fewer replicas start then."""
    upscale_delay_s: float = Field(default=10, ge=0)
    downscale_delay_s: float = Field(default=300, ge=0)
    """Long, so that a pause between two bursts does not throw a warm model away."""
    look_back_s: float = Field(default=10, gt=0)
    """Load is averaged over this time."""

    @model_validator(mode="after")
    def _range(self) -> Replicas:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}"
            )
        if self.upscale_delay_s > 0 and self.look_back_s > max(
            self.upscale_delay_s, self.downscale_delay_s
        ):
            raise ValueError(
                "look_back_s must not be above both delays: replicas would come and go with load "
                "that has long passed"
            )
        return self


class ModelSettings(ModelChoice):
    """One served task."""

    name: str | None = None
    """What answers call the model; the task where left out."""
    assets_root: str | None = None
    """Where licensed body models are; null takes the checkpoint's setting."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where `gpus` is above 0."""
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    """null: as it was trained."""
    runtime: Literal["torch", "onnxruntime", "auto"] = "torch"
    """What computes. onnxruntime: float32 on CPUs, needs the extra `onnx`; auto: whichever of the
    two is faster, measured before the first request."""
    compile: bool = False
    """torch.compile, once for each batch size; needs a C++ compiler on CPUs."""
    max_batch_size: int = Field(default=16, ge=1, le=256)
    """People in one forward pass."""
    batch_wait_ms: float = Field(default=1, ge=0, le=1000)
    """How long an incomplete batch waits for more when the network is free."""
    keep_versions: int = Field(default=1, ge=0, le=8)
    """Earlier versions that stay loaded, so that going back takes no time."""
    cpus: float = Field(default=1, gt=0)
    """Of each replica, for Ray's planning."""
    cpu_threads: int | None = Field(default=None, ge=1)
    """That a replica computes with; null: `cpus`, rounded up."""
    gpus: float = Field(default=0, ge=0)
    """Of each replica; 0.25 puts four on one GPU."""
    replicas: Replicas = Replicas()
    max_queued_requests: int = Field(default=256, ge=1)
    """Waiting for a replica; more are refused with 503."""

    @model_validator(mode="after")
    def _runtime_fits(self) -> ModelSettings:
        if self.runtime != "torch" and (self.gpus > 0 or self.device == "cuda"):
            raise ValueError(
                f"runtime {self.runtime} is for CPUs: set runtime: torch, or gpus: 0, device: cpu"
            )
        if self.runtime == "onnxruntime" and (self.compile or self.precision not in (None, "fp32")):
            raise ValueError(
                "runtime onnxruntime computes in fp32 and compiles by itself: leave precision and "
                "compile out"
            )
        return self

    @property
    def choice(self) -> ModelChoice:
        """The part that may change while it runs."""
        return ModelChoice(**self.model_dump(include=set(ModelChoice.model_fields)))


class Limits(Settings):
    """What one request may ask for, and how many may at once."""

    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    max_pixels: int = Field(default=40_000_000, ge=1024)
    """Of a request's images together, told from their headers before they are decoded."""
    max_images: int = Field(default=16, ge=1)
    """In a JSON request."""
    max_people: int = Field(default=32, ge=1)
    """In an image."""
    timeout_s: float = Field(default=30, gt=0)
    """From the first byte to the answer; then 408, and its work is dropped."""
    max_pending: int = Field(default=64, ge=1)
    """Requests in work or waiting in an ingress; more are refused with 503 at once."""
    retry_after_s: int = Field(default=1, ge=1)
    """What refused clients are told."""


class Access(Settings):
    """Who may ask."""

    keys_file: str | None = None
    """Made by `metro-ray serve-key`; read anew when it changes. METRO_RAY_SERVE_KEYS holds the
    same text instead of a file."""
    requests_per_s: float | None = Field(default=None, gt=0)
    """Of each key that has no rate of its own; null: any number."""
    burst: int = Field(default=10, ge=1)
    """Requests that may come at once before the rate applies."""
    allowed_hosts: tuple[str, ...] = ()
    """Names in the Host header that are answered; without keys, loopback names where left out."""


class Ingress(Settings):
    """The processes that speak HTTP, decode and encode."""

    replicas: int = Field(default=1, ge=1)
    cpus: float = Field(default=0.5, ge=0)
    threads: int = Field(default=4, ge=1)
    """That decode images and write meshes and pictures, in each process."""


class Jobs(Settings):
    """Folders of images and videos in the background."""

    folder: str | None = None
    """Where uploads and results are kept; null: a temporary folder."""
    max_upload_bytes: int = Field(default=512 * 2**20, ge=1024)
    min_upload_bytes_per_s: int = Field(default=1024, ge=1)
    """That must come on average in each `limits.timeout_s` of an upload; then 408."""
    max_files: int = Field(default=1000, ge=1)
    max_frames: int = Field(default=20_000, ge=1)
    max_queued: int = Field(default=8, ge=1)
    keep_s: float = Field(default=3600, gt=0)
    """How long the result of a finished job can be fetched."""


class ServeArgs(Settings):
    """All of a service."""

    body: ModelSettings | None = None
    hand: ModelSettings | None = None
    limits: Limits = Limits()
    access: Access = Access()
    ingress: Ingress = Ingress()
    jobs: Jobs = Jobs()

    @model_validator(mode="after")
    def _serves_something(self) -> ServeArgs:
        if not self.models:
            raise ValueError("nothing to serve: give body, hand or both")
        return self

    @property
    def takes_jobs(self) -> bool:
        """Whether there are jobs: each lives in the process that took it, so there must be one."""
        return self.ingress.replicas == 1

    @property
    def models(self) -> dict[Task, ModelSettings]:
        """What is served, by task."""
        tasks: dict[Task, ModelSettings | None] = {"body": self.body, "hand": self.hand}
        return {task: model for task, model in tasks.items() if model is not None}


def read_args(values: Any) -> ServeArgs:
    """Validate the settings of a service.

    Raises:
        ConfigError: names each field that is unknown or wrong.
    """
    return _validated(ServeArgs, values, "the settings of the service (args:)")


def read_choice(values: Any) -> ModelChoice:
    """Validate a `user_config`.

    Raises:
        ConfigError: names each field that is unknown or wrong.
    """
    return _validated(ModelChoice, values, "user_config")


def _validated(kind: type[Any], values: Any, what: str) -> Any:
    if isinstance(values, kind):
        return values
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{what} cannot be used: {explain(error, kind)}") from error


def explain(error: ValidationError, kind: type[BaseModel] | None = None) -> str:
    """A validation error in one line: each field with what is wrong about it."""
    parts: list[str] = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = "" if kind is None else _fields_at(kind, problem["loc"][:-1])
            message = f"unknown field{known}"
        parts.append(f"{place}: {message}" if place else message)
    return "; ".join(parts)


def _fields_at(kind: type[BaseModel], path: tuple[int | str, ...]) -> str:
    """The fields that exist where an unknown one was found."""
    current: Any = kind
    for part in path:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return ""
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((o for o in options if hasattr(o, "model_fields")), None)
    names = sorted(getattr(current, "model_fields", {}))
    return f"; known here: {', '.join(names)}" if names else ""
