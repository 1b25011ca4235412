"""What OpenAPI says about the API beyond what FastAPI finds by itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from metro_ray.serve.problems import STATUS
from metro_ray.serve.requests import PredictQuery
from metro_ray.serve.schema import (
    IMAGE_TYPES,
    MEDIA_TYPES,
    MODEL_VERSION,
    ErrorAnswer,
    ErrorCode,
    PredictRequest,
)

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"type": "string", "format": "binary"}


def form(fields: type[BaseModel], **files: dict[str, Any]) -> dict[str, Any]:
    """The body of a form, for OpenAPI.

    Args:
        fields: beside its files.
        files: schema of each part that is one, by name; all are required.
    """
    described = fields.model_json_schema(ref_template="#/components/schemas/{model}")
    schema = {
        "type": "object",
        "required": [*files, *described.get("required", ())],
        "properties": files | {k: _without_null(v) for k, v in described["properties"].items()},
        "additionalProperties": False,
    }
    return {"multipart/form-data": {"schema": schema}}


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """A field of a form: left out or given, but never null."""
    kinds = [kind for kind in field.get("anyOf", ()) if kind.get("type") != "null"]
    rest = {name: value for name, value in field.items() if name not in ("anyOf", "default")}
    return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds}) if kinds else field


def problems(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for OpenAPI."""
    grouped: dict[int | str, list[str]] = {}
    grouped[400] = [ErrorCode.BAD_REQUEST.value]  # a Host that is not answered, a broken body
    for code in (*codes, ErrorCode.UNAUTHORIZED, ErrorCode.RATE_LIMITED):
        grouped.setdefault(STATUS[code], []).append(code.value)
    return {
        status: {"model": ErrorAnswer, "description": ", ".join(names)}
        for status, names in grouped.items()
    }


def describe(app: FastAPI, is_open: bool) -> dict[str, Any]:
    """The OpenAPI document; made once.

    Args:
        app: with all its routes.
        is_open: whether no keys are asked for.
    """
    if app.openapi_schema is not None:
        return app.openapi_schema
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, models = models_json_schema(
        [(PredictRequest, "validation")], ref_template="#/components/schemas/{model}"
    )
    schema["components"]["schemas"] |= models["$defs"]
    if not is_open:
        schema["components"]["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        schema["security"] = [{"key": []}, {"header": []}]
    app.openapi_schema = schema
    return schema


_ANSWERS = {kind: BINARY for kind in MEDIA_TYPES.values() if kind != MEDIA_TYPES["json"]}
PREDICTION_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": _ANSWERS, "description": "the people, in the format asked for"},
    406: {"model": ErrorAnswer, "description": "Accept names nothing that can be made"},
    **problems(
        ErrorCode.BAD_IMAGE, ErrorCode.NOT_FOUND, ErrorCode.TIMEOUT, ErrorCode.TOO_LARGE,
        ErrorCode.TOO_MANY_PIXELS, ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.BAD_REQUEST,
        ErrorCode.INTERNAL, ErrorCode.OVERLOADED,
    ),
}  # fmt: skip
_CONTENT = {
    **dict.fromkeys(IMAGE_TYPES, BINARY),
    **form(PredictQuery, image=_FILE),
    "application/json": {"schema": {"$ref": "#/components/schemas/PredictRequest"}},
}
_HEADER = {
    "name": MODEL_VERSION,
    "in": "header",
    "description": "only this version may answer",
    "schema": {"type": "string"},
}
PREDICTION_REQUEST: dict[str, Any] = {
    "requestBody": {"required": True, "content": _CONTENT},
    "parameters": [_HEADER],
}
"""The body of a prediction, for OpenAPI."""
