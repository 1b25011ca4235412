"""What a client asks for: a raw image, a form or JSON become one `Wanted`, checked by field."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

import pybase64
from pydantic import Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from metro_ray.geometry.cameras import Intrinsics
from metro_ray.inference.camera import CameraSource
from metro_ray.inference.inputs import Person
from metro_ray.serve.negotiation import choose_format
from metro_ray.serve.problems import ApiError
from metro_ray.serve.schema import (
    IMAGE_TYPES,
    MAX_PX,
    ErrorCode,
    FocalLength,
    Format,
    HandSide,
    ImageIn,
    Origin,
    PredictRequest,
    Strict,
    Task,
)
from metro_ray.serve.settings import Limits, explain

_Fields = TypeVar("_Fields", bound=Strict)
_FORM, _JSON = "multipart/form-data", "application/json"
BODY_TYPES = (*IMAGE_TYPES, _FORM, _JSON)
_IMAGE_FIELD = "image"
MAX_FIELD_BYTES = 64 * 1024
_BOXES = f"x0,y0,x1,y1;x0,y0,x1,y1;.. in pixels, {MAX_PX:.0f} at most"


class PredictQuery(Strict):
    """Query parameters of raw and multipart requests, and fields of the latter."""

    boxes: Annotated[str | None, Field(description=f"people or hands in the image: {_BOXES}")] = (
        None
    )
    hand_side: HandSide | None = None
    focal_length: FocalLength | None = None
    intrinsics: Annotated[str | None, Field(description="fx,fy,cx,cy in pixels")] = None
    vertices: bool = False
    format: Format | None = None
    origin: Origin = "camera"


@dataclass(frozen=True, slots=True)
class WantedImage:
    """An image file and whom to look for in it."""

    data: bytes
    people: tuple[Person, ...]
    hand: HandSide | None
    camera: CameraSource


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one request asks for."""

    images: tuple[WantedImage, ...]
    format: Format
    vertices: bool
    origin: Origin

    @property
    def needs_vertices(self) -> bool:
        """Whether the answer cannot be made from joints alone."""
        return self.vertices or self.format != "json"


async def read_request(request: Request, query: PredictQuery, task: Task, limits: Limits) -> Wanted:
    """Read and check a request.

    Args:
        request: whose body has not been read.
        query: its query parameters.
        task: of its path.
        limits: what it may ask for.

    Raises:
        ApiError: says which field is wrong, and what is expected.
    """
    media_type = media_type_of(request)
    accepted = request.headers.get("accept", "*/*")
    if media_type in IMAGE_TYPES:
        wanted = from_query(await request.body(), query, accepted, limits)
    elif media_type == _FORM:
        wanted = await _from_form(request, accepted, limits)
    elif media_type == _JSON:
        wanted = _from_json(await request.body(), query, accepted, limits)
    else:
        raise ApiError(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type is {media_type or 'missing'}; expected one of {', '.join(BODY_TYPES)}",
        )
    check(wanted, task)
    return wanted


def media_type_of(request: Request) -> str:
    """What a request says its body is, without parameters; empty where it says nothing."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def parse_boxes(text: str) -> list[tuple[float, float, float, float]]:
    """`x0,y0,x1,y1;..` to corners.

    Raises:
        ApiError: names the box that is wrong.
    """
    parts = [part for part in text.split(";") if part.strip()]
    return [_four(part, f"boxes: box {number}", _BOXES) for number, part in enumerate(parts)]


def broken_form(error: HTTPException) -> ApiError:
    """What a client is told about a form that cannot be parsed."""
    message = f"the form cannot be read: {error.detail}"
    return ApiError(ErrorCode.BAD_REQUEST, message, status=400)


def from_query(data: bytes, query: PredictQuery, accepted: str, limits: Limits) -> Wanted:
    """One image with its parameters.

    Raises:
        ApiError: says which parameter is wrong.
    """
    boxes = None if query.boxes is None else parse_boxes(query.boxes)
    intrinsics = None
    if query.intrinsics is not None:
        intrinsics = _four(query.intrinsics, "intrinsics", "fx,fy,cx,cy in pixels")
    image = WantedImage(
        data,
        _people(boxes, limits, "boxes"),
        query.hand_side,
        _camera(query.focal_length, intrinsics, "intrinsics"),
    )
    chosen = choose_format(query.format, accepted)
    return Wanted((image,), chosen, query.vertices, query.origin)


async def _from_form(request: Request, accepted: str, limits: Limits) -> Wanted:
    try:
        async with request.form(
            max_files=1,
            max_fields=len(PredictQuery.model_fields),
            max_part_size=MAX_FIELD_BYTES,
        ) as form:
            image = form.get(_IMAGE_FIELD)
            if not isinstance(image, UploadFile):
                raise ApiError(
                    ErrorCode.BAD_REQUEST,
                    f"the form has no file {_IMAGE_FIELD!r}, but {', '.join(form) or 'nothing'}",
                )
            fields = {name: value for name, value in form.items() if name != _IMAGE_FIELD}
            data = await image.read()
    except HTTPException as error:  # what Starlette makes of a form that cannot be parsed
        raise broken_form(error) from error
    twice = fields.keys() & request.query_params.keys()
    if twice:
        raise ApiError(
            ErrorCode.BAD_REQUEST, f"{', '.join(sorted(twice))}: given in the form and in the query"
        )
    query = validated(PredictQuery, {**request.query_params, **fields})
    return from_query(data, query, accepted, limits)


def _from_json(body: bytes, query: PredictQuery, accepted: str, limits: Limits) -> Wanted:
    misplaced = query.model_fields_set - {"format", "vertices", "origin"}
    if misplaced:
        raise ApiError(
            ErrorCode.BAD_REQUEST,
            f"{', '.join(sorted(misplaced))} in the query of a JSON request: give it with its "
            "image, in images[i]",
        )
    try:
        asked = PredictRequest.model_validate_json(body)
    except ValidationError as error:
        broken = any(problem["type"] == "json_invalid" for problem in error.errors())
        raise ApiError(
            ErrorCode.BAD_REQUEST, explain(error, PredictRequest), status=400 if broken else None
        ) from error
    if len(asked.images) > limits.max_images:
        raise ApiError(
            ErrorCode.TOO_LARGE,
            f"images: {len(asked.images)} in one request, {limits.max_images} are accepted: send "
            "several requests",
        )
    images = tuple(_image(i, image, limits) for i, image in enumerate(asked.images))
    return Wanted(
        images,
        choose_format(asked.format or query.format, accepted),
        asked.vertices or query.vertices,
        query.origin if "origin" in query.model_fields_set else asked.origin,
    )


def _image(number: int, image: ImageIn, limits: Limits) -> WantedImage:
    where = f"images.{number}"
    try:
        data = pybase64.b64decode(image.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(
            ErrorCode.BAD_REQUEST, f"{where}.data is not base64: {error}", status=400
        ) from error
    return WantedImage(
        data,
        _people(image.boxes, limits, f"{where}.boxes"),
        image.hand_side,
        _camera(image.focal_length, image.intrinsics, where),
    )


def _people(
    boxes: Sequence[tuple[float, float, float, float]] | None, limits: Limits, where: str
) -> tuple[Person, ...]:
    if boxes is None:
        return (Person(),)
    if len(boxes) > limits.max_people:
        raise ApiError(
            ErrorCode.TOO_LARGE,
            f"{where}: {len(boxes)} people in one image, {limits.max_people} are accepted: send "
            "several requests",
        )
    if not boxes:
        raise ApiError(
            ErrorCode.BAD_REQUEST,
            f"{where}: no box; leave it out to take the middle of the image",
        )
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        if x1 <= x0 or y1 <= y0:
            raise ApiError(
                ErrorCode.BAD_REQUEST,
                f"{where}: box {number} = {x0:g},{y0:g},{x1:g},{y1:g} has no size; expected the "
                "upper left and the lower right corner, x0 < x1 and y0 < y1",
            )
    return tuple(Person((x0, y0, x1 - x0, y1 - y0)) for x0, y0, x1, y1 in boxes)


def _camera(
    focal: float | None, intrinsics: tuple[float, float, float, float] | None, where: str
) -> CameraSource:
    if intrinsics is None:
        return CameraSource() if focal is None else CameraSource.of(focal, None)
    if focal is not None:
        raise ApiError(ErrorCode.BAD_REQUEST, f"{where}: give focal_length or intrinsics, not both")
    fx, fy, cx, cy = intrinsics
    if min(fx, fy) < 1:
        raise ApiError(ErrorCode.BAD_REQUEST, f"{where}: focal lengths must be 1 pixel or more")
    return CameraSource(intrinsics=Intrinsics((fx, fy), (cx, cy)), note="given")


def check(wanted: Wanted, task: Task) -> None:
    """Refuse what a task or a format cannot answer.

    Raises:
        ApiError: says what to ask instead.
    """
    if task == "body" and any(image.hand is not None for image in wanted.images):
        raise ApiError(
            ErrorCode.BAD_REQUEST, "hand_side: /v1/body predicts bodies; ask /v1/hand for hands"
        )
    if len(wanted.images) > 1 and wanted.format not in ("json", "npz"):
        raise ApiError(
            ErrorCode.BAD_REQUEST,
            f"format {wanted.format} holds one image, got {len(wanted.images)}: send one request "
            "for each, or ask for json or npz",
        )


def _four(text: str, where: str, expected: str) -> tuple[float, float, float, float]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4 or not all(abs(value) <= MAX_PX for value in values):
        raise ApiError(ErrorCode.BAD_REQUEST, f"{where}: expected {expected}, got {text[:80]!r}")
    return cast("tuple[float, float, float, float]", values)


def validated(kind: type[_Fields], values: Mapping[str, Any]) -> _Fields:
    """Fields of a form.

    Raises:
        ApiError: names each that is unknown or wrong.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ApiError(ErrorCode.BAD_REQUEST, explain(error, kind)) from error
