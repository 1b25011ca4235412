"""The HTTP API: a FastAPI application over engines. Knows nothing of Ray."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from metro_ray.bodies.spec import get_spec
from metro_ray.inference.result import turned
from metro_ray.serve.engine import Engine
from metro_ray.serve.gate import LOOPBACK, Gate
from metro_ray.serve.job_routes import JOBS, job_routes, no_job_routes
from metro_ray.serve.jobs import JobRunner
from metro_ray.serve.keys import KeyRing, RateLimiter
from metro_ray.serve.metrics import Metrics
from metro_ray.serve.openapi import (
    BINARY,
    PREDICTION_REQUEST,
    PREDICTION_RESPONSES,
    describe,
    problems,
)
from metro_ray.serve.pages import mount_pages
from metro_ray.serve.predictions import Predictions
from metro_ray.serve.problems import ApiError
from metro_ray.serve.requests import PredictQuery
from metro_ray.serve.schema import (
    ErrorCode,
    HandSide,
    ModelCard,
    ModelList,
    PredictAnswer,
    Task,
)
from metro_ray.serve.settings import ServeArgs
from metro_ray.version import __version__

_READY_TIMEOUT_S = 2.0
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def create_api(
    engines: Mapping[Task, Engine],
    args: ServeArgs,
    *,
    ingress: str = "local",
    tells_request_id: bool = True,
) -> FastAPI:
    """The API over engines that are, or will be, ready.

    Args:
        engines: the networks by task.
        args: limits, access and threads; which models is the engines' business.
        ingress: name of this process in metrics.
        tells_request_id: whether answers get the header; Ray Serve's proxy adds it by itself.

    Raises:
        ConfigError: the keys cannot be read.
    """
    metrics = Metrics(ingress)
    keys = KeyRing(args.access)
    predictions = Predictions(engines, args.limits, metrics, args.ingress.threads)
    app = FastAPI(
        title="metro_ray",
        version=__version__,
        description="3D human bodies and hands from images. Frames, formats and limits: "
        "docs/serving.md.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.predictions = predictions
    app.state.is_open = keys.is_open
    _add_predictions(app, predictions)
    _add_models(app, predictions, args)
    _add_service(app, predictions, args, metrics)
    _add_jobs(app, predictions, args)
    _add_errors(app)
    mount_pages(app)
    app.add_middleware(
        Gate,
        keys=keys,
        limiter=RateLimiter(),
        metrics=metrics,
        allowed_hosts=args.access.allowed_hosts or (LOOPBACK if keys.is_open else ()),
        body_limit={"": args.limits.max_body_bytes, JOBS: args.jobs.max_upload_bytes},
        tells_request_id=tells_request_id,
    )
    app.openapi = lambda: describe(app, keys.is_open)
    return app


def _add_predictions(app: FastAPI, predictions: Predictions) -> None:
    def add(task: Task) -> None:
        async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
            return await predictions.answer(task, request, query)

        app.post(
            f"/v1/{task}",
            operation_id=f"predict_{task}",
            summary=f"Predict the {'people' if task == 'body' else 'hands'} of images",
            response_model=PredictAnswer,
            responses=PREDICTION_RESPONSES,
            openapi_extra=PREDICTION_REQUEST,
            include_in_schema=task in predictions.engines,
        )(predict)

    add("body")
    add("hand")


def _add_models(app: FastAPI, predictions: Predictions, args: ServeArgs) -> None:
    @app.get("/v1/models", responses=problems())
    async def models() -> ModelList:
        """What is served at present, with each version's share of the requests."""
        cards: list[ModelCard] = []
        statuses = await predictions.statuses()
        for task, status in statuses.items():
            for card, traffic in status.served:
                spec = get_spec(card.body_model)
                cards.append(
                    ModelCard(
                        name=card.name,
                        task=task,
                        version=card.version,
                        body_model=card.body_model,
                        checkpoint=card.checkpoint,
                        arch=card.arch,
                        num_vertices=spec.num_vertices,
                        joint_names=list(spec.joints.names),
                        edges=list(spec.joints.bones),
                        input_size=card.input_size,
                        precision=card.precision,
                        runtime=card.runtime,
                        traffic=traffic,
                    )
                )
        problems: dict[Task, str] = {
            task: each.problem for task, each in statuses.items() if each.problem
        }
        return ModelList(models=cards, problems=problems, jobs=args.takes_jobs)

    @app.get(
        "/v1/models/{task}/faces",
        response_class=Response,
        responses={
            200: {"content": {"application/octet-stream": BINARY}},
            304: {"description": "the client has them"},
            **problems(ErrorCode.NOT_FOUND, ErrorCode.TIMEOUT, ErrorCode.BAD_REQUEST),
        },
    )
    async def faces(task: Task, request: Request, hand_side: HandSide = "right") -> Response:
        """Triangles of the vertices as int32, little endian, F x 3; those of left hands turned."""
        predictions.engine(task)
        mesh = await predictions.mesh(task)
        found = turned(mesh.faces) if task == "hand" and hand_side == "left" else mesh.faces
        content = found.astype("<i4").tobytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
        headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="application/octet-stream", headers=headers)


def _add_service(app: FastAPI, predictions: Predictions, args: ServeArgs, metrics: Metrics) -> None:
    may_sleep = {task for task, model in args.models.items() if model.replicas.min_replicas == 0}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: {"description": "some networks are not warm yet"}})
    async def readyz() -> JSONResponse:
        """Whether every task's networks are warm; those that may scale to zero count as such."""
        tasks = list(predictions.engines)
        found = await asyncio.gather(
            *(_is_ready(engine, task in may_sleep) for task, engine in predictions.engines.items())
        )
        states = dict(zip(tasks, found, strict=True))
        ready = all(states.values())
        named = {task: "ready" if state else "loading" for task, state in states.items()}
        return JSONResponse({"ready": ready, "models": named}, 200 if ready else 503)

    @app.get("/metrics", response_class=Response, responses=problems())
    async def prometheus() -> Response:
        """Counters in Prometheus' text format."""
        awake = {} if may_sleep else await predictions.statuses()
        return Response(metrics.text(awake), media_type=metrics.content_type)


def _add_jobs(app: FastAPI, predictions: Predictions, args: ServeArgs) -> None:
    if not args.takes_jobs:
        app.include_router(no_job_routes(), include_in_schema=False)
        return
    runner = JobRunner(predictions, args.jobs, args.limits)
    app.include_router(job_routes(runner, args), responses=problems(ErrorCode.NOT_FOUND))


async def _is_ready(engine: Engine, may_sleep: bool) -> bool:
    if may_sleep:  # asking would wake it
        return True
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            return bool((await engine.status()).served)
    except Exception:  # noqa: BLE001 - whatever it is, nothing answers
        return False


def _add_errors(app: FastAPI) -> None:
    def answer(request: Request, error: ApiError) -> Response:
        state = request.scope["state"]
        state["error_code"] = error.code.value
        return Response(
            error.body(state["request_id"]), error.status, error.headers, "application/json"
        )

    @app.api_route("/v1/{rest:path}", methods=_METHODS, include_in_schema=False)
    async def unknown(request: Request, rest: str) -> Response:
        """What is no route, or a route of another method, before the pages at / get it."""
        known = [route for route in app.routes if isinstance(route, APIRoute)]
        partly = any(route.matches(request.scope)[0] == Match.PARTIAL for route in known)
        raise HTTPException(405, "Method Not Allowed") if partly else HTTPException(404)

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        parts: list[str] = []
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"][1:])
            unknown = problem["type"] == "extra_forbidden"
            known = f"unknown; known: {', '.join(PredictQuery.model_fields)}"
            parts.append(f"{place}: {known if unknown else problem['msg']}")
        return answer(request, ApiError(ErrorCode.BAD_REQUEST, "; ".join(parts)))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        if error.status_code == 404:
            message = f"there is nothing at {path}; /docs lists what there is"
            return answer(request, ApiError(ErrorCode.NOT_FOUND, message))
        message = f"{request.method} {path}: {error.detail}; see /docs"
        known = ApiError(ErrorCode.BAD_REQUEST, message, status=error.status_code)
        return answer(request, known)
