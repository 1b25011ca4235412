"""The wire contract: what requests hold and what answers hold, version 1.

Frames as everywhere: 3D in metres relative to the root, x right, y down, z away from the camera; 2D
in pixels of the original image as it is shown (EXIF orientation applied), the centre of the upper
left pixel being (0, 0).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Task = Literal["body", "hand"]
HandSide = Literal["left", "right"]
Format = Literal["json", "npz", "obj", "ply", "glb", "png", "depth"]
Origin = Literal["camera", "root"]

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "npz": "application/x-npz",
    "obj": "model/obj",
    "ply": "model/ply",
    "glb": "model/gltf-binary",
    "png": "image/png",
    "depth": "application/zip",
}
"""What an answer of each format is; `Accept` names these, except `depth`, which `format` asks for.
"""
ENDINGS: dict[Format, str] = {**{kind: kind for kind in MEDIA_TYPES}, "depth": "zip"}
"""Of files in each format."""
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
"""Raw request bodies."""

MODEL_VERSION, REQUEST_ID, SERVER_TIMING = "X-Model-Version", "X-Request-Id", "Server-Timing"
"""Headers of every answer of a model."""

MAX_PX = 1e7
"""Lengths and places in requests stay within this, so that what follows from them is finite."""
Number = Annotated[float, Field(ge=-MAX_PX, le=MAX_PX, allow_inf_nan=False)]
FocalLength = Annotated[float, Field(ge=1, le=MAX_PX, allow_inf_nan=False)]
Corners = Annotated[
    tuple[Number, Number, Number, Number],
    Field(description="x0, y0, x1, y1 in pixels of the original image; may leave it"),
]
Point2 = tuple[float, float]
Point3 = tuple[float, float, float]


class Strict(BaseModel):
    """Base of requests: an unknown field is an error that names it."""

    model_config = ConfigDict(extra="forbid")


class ImageIn(Strict):
    """One image and whom to look for in it."""

    data: str = Field(description="JPEG, PNG or WebP, base64")
    boxes: list[Corners] | None = Field(
        default=None, description="one for each person or hand; none takes the middle of the image"
    )
    hand_side: HandSide | None = Field(
        default=None, description="of all hands in the image; right where left out"
    )
    focal_length: FocalLength | None = Field(default=None, description="of the camera, pixels")
    intrinsics: tuple[FocalLength, FocalLength, Number, Number] | None = Field(
        default=None, description="fx, fy, cx, cy in pixels; instead of focal_length"
    )


class PredictRequest(Strict):
    """Body of a JSON request."""

    images: Annotated[list[ImageIn], Field(min_length=1)]
    vertices: bool = Field(default=False, description="also give the vertices in a JSON answer")
    format: Format | None = Field(default=None, description="of the answer; before `Accept`")
    origin: Origin = Field(
        default="camera",
        description="of obj, ply and glb: the camera of the image, or each person's root",
    )


class AnsweredBy(BaseModel):
    """The model that gave an answer."""

    name: str
    version: str = Field(description="hash of the weights, and the training step")
    body_model: str = Field(description="smpl, mano, anny_body or anny_hand")
    checkpoint: str = Field(description="name of the checkpoint's folder")


class Camera(BaseModel):
    """Weak perspective in the crop: a vertex appears at scale * (xy + translation) in [-1, 1]."""

    scale: float
    translation: Point2


class FullCamera(BaseModel):
    """A perspective camera of the original image."""

    focal_length: float = Field(description="pixels; of the x axis, see intrinsics")
    principal_point: Point2 = Field(description="pixels")
    intrinsics: tuple[float, float, float, float] = Field(description="fx, fy, cx, cy in pixels")
    translation: Point3 | None = Field(
        description="of the person's root, metres; null where the network has found nobody that "
        "could stand before the camera (scale at or below 0)"
    )
    assumed: bool = Field(
        description="whether focal length or principal point were assumed (focal length = diagonal "
        "of the image, principal point = its middle) and not given"
    )


class Person(BaseModel):
    """A predicted person or hand."""

    box: Corners = Field(description="as given; else the part of the image that was looked at")
    hand_side: HandSide | None = Field(description="null for bodies")
    camera: Camera
    camera_full: FullCamera
    crop_to_image: tuple[Point3, Point3] = Field(
        description="2 x 3 affine map from pixels of the crop to pixels of the original image"
    )
    joint_names: list[str]
    joints: list[Point3] = Field(description="metres, root-relative")
    joints_2d: list[Point2] = Field(description="pixels of the original image")
    vertices: list[Point3] | None = Field(
        default=None, description="metres, root-relative, if asked for"
    )


class ImageOut(BaseModel):
    """An image as it is shown, and who was found in it."""

    width: int
    height: int
    people: list[Person]


class Timings(BaseModel):
    """Where the time went, milliseconds."""

    decode: float
    queue: float
    model: float
    encode: float
    total: float


class PredictAnswer(BaseModel):
    """JSON answer of /v1/body and /v1/hand."""

    model: AnsweredBy
    images: list[ImageOut]
    timings_ms: Timings


class ModelCard(BaseModel):
    """A model that is served."""

    name: str
    task: Task
    version: str
    body_model: str
    checkpoint: str
    arch: str
    num_vertices: int
    joint_names: list[str]
    edges: list[tuple[int, int]] = Field(description="pairs of joints to connect in drawings")
    input_size: int = Field(description="side of the crop that the network takes, pixels")
    precision: str
    runtime: str = Field(description="what computes: torch or onnxruntime")
    traffic: float = Field(description="share of the task's requests that it answers")


class ModelList(BaseModel):
    """Answer of /v1/models."""

    models: list[ModelCard]
    problems: dict[Task, str] = Field(
        default_factory=dict,
        description="why the last change of weights did not happen, by task; what answered before "
        "goes on",
    )
    jobs: bool = Field(default=True, description="whether /v1/jobs takes work")


JobState = Literal["queued", "running", "done", "failed", "cancelled"]


class Job(BaseModel):
    """A folder of images or a video that is predicted in the background."""

    id: str
    state: JobState
    done: int = Field(description="images or frames that are finished")
    total: int | None = Field(description="images or frames in all; null while not known")
    error: str | None = None


class ErrorCode(StrEnum):
    """What went wrong, for programs."""

    BAD_IMAGE = "bad_image"
    TOO_LARGE = "too_large"
    TOO_MANY_PIXELS = "too_many_pixels"
    BAD_REQUEST = "bad_request"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNAUTHORIZED = "unauthorized"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    NOT_FOUND = "not_found"
    INTERNAL = "internal"


class ErrorDetail(BaseModel):
    """What was wrong, what was expected, what to do next."""

    code: ErrorCode
    message: str
    request_id: str


class ErrorAnswer(BaseModel):
    """Body of every answer that is not 2xx."""

    error: ErrorDetail
