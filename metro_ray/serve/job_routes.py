"""/v1/jobs: take many images or a video, tell how far a job is, give its zip."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import Field
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from metro_ray.serve.jobs import JobRunner, Upload
from metro_ray.serve.openapi import form, problems
from metro_ray.serve.problems import ApiError
from metro_ray.serve.requests import (
    MAX_FIELD_BYTES,
    PredictQuery,
    broken_form,
    check,
    from_query,
    media_type_of,
    validated,
)
from metro_ray.serve.schema import ErrorCode, Job, Task
from metro_ray.serve.settings import ServeArgs

JOBS = "/v1/jobs"
_FILES = "files"
_PIECE = 1 << 20


class JobFields(PredictQuery):
    """Fields of the form beside its files."""

    task: Task = Field(description="what to predict")


_FORM = form(
    JobFields,
    files={
        "type": "array",
        "minItems": 1,
        "items": {"type": "string", "format": "binary"},
        "description": "images, or one video (MP4, MOV, WebM, MKV, AVI)",
    },
)


def job_routes(runner: JobRunner, args: ServeArgs) -> APIRouter:
    """The routes over a runner.

    Args:
        runner: of the jobs.
        args: limits.
    """
    router = APIRouter(prefix=JOBS)

    @router.post(
        "",
        status_code=202,
        openapi_extra={"requestBody": {"required": True, "content": _FORM}},
        responses=problems(
            ErrorCode.BAD_REQUEST,
            ErrorCode.NOT_FOUND,
            ErrorCode.OVERLOADED,
            ErrorCode.TIMEOUT,
            ErrorCode.TOO_LARGE,
            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        ),
    )
    async def submit(request: Request) -> Job:
        """Predict many images, or a video, in the background."""
        media_type = media_type_of(request)
        if media_type not in _FORM:
            raise ApiError(
                ErrorCode.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type is {media_type or 'missing'}; expected {', '.join(_FORM)}",
            )
        paced = Request(request.scope, _Paced(request.receive, args).receive)
        form = paced.form(
            max_files=args.jobs.max_files,
            max_fields=len(JobFields.model_fields),
            max_part_size=MAX_FIELD_BYTES,
        )
        with runner.admitted() as folder, _broken_forms_told():
            async with form as sent:
                values = {name: value for name, value in sent.items() if name != _FILES}
                fields = validated(JobFields, values)
                if fields.task not in args.models:
                    raise ApiError(ErrorCode.NOT_FOUND, f"{fields.task} is not served here")
                query = PredictQuery.model_validate(fields.model_dump(exclude={"task"}))
                wanted = from_query(b"", query, "application/json", args.limits)
                check(wanted, fields.task)
                uploads = await _keep(sent, folder)
            return runner.submit(fields.task, wanted, folder, uploads, _owner(request))

    @router.get("/{job_id}")
    async def state(job_id: str, request: Request) -> Job:
        """How far a job is."""
        return runner.find(job_id, _owner(request)).told()

    @router.delete("/{job_id}")
    async def cancel(job_id: str, request: Request) -> Job:
        """End a job and drop its files and its result."""
        return await runner.cancel(runner.find(job_id, _owner(request)))

    @router.get(
        "/{job_id}/result",
        response_class=FileResponse,
        responses={200: {"content": {"application/zip": {}}}},
    )
    async def result(job_id: str, request: Request) -> FileResponse:
        """The zip: a file for each image or frame, and report.json."""
        path = runner.result(runner.find(job_id, _owner(request)))
        return FileResponse(path, media_type="application/zip", filename=f"{job_id}.zip")

    return router


def no_job_routes() -> APIRouter:
    """Routes that say why there are no jobs."""
    router = APIRouter(prefix=JOBS)

    @router.api_route("", methods=["GET", "POST"])
    @router.api_route("/{rest:path}", methods=["GET", "DELETE"])
    async def refuse() -> None:
        """What a service of several ingress processes says."""
        raise ApiError(
            ErrorCode.NOT_FOUND,
            "this service takes no jobs, because it has several ingress processes: send images one "
            "by one, or serve with ingress.replicas: 1",
        )

    return router


@contextmanager
def _broken_forms_told() -> Iterator[None]:
    try:
        yield
    except HTTPException as error:
        raise broken_form(error) from error


class _Paced:
    """The pieces of an upload, as long as they come fast enough.

    A video may take its time, so there is no limit on the whole; but in each `limits.timeout_s`
    some of it must come, or a client that stalls would hold its place for ever.

    Args:
        receive: gives the pieces.
        args: how much must come, and in which time.
    """

    def __init__(self, receive: Receive, args: ServeArgs) -> None:
        self._receive = receive
        self._within_s = args.limits.timeout_s
        self._due_bytes = args.jobs.min_upload_bytes_per_s * self._within_s
        self._begin()

    def _begin(self) -> None:
        self._end = asyncio.get_running_loop().time() + self._within_s
        self._come_bytes = 0

    async def receive(self) -> Message:
        """The next piece.

        Raises:
            ApiError: too little has come.
        """
        try:
            async with asyncio.timeout_at(self._end):
                message = await self._receive()
        except TimeoutError as error:
            raise ApiError(
                ErrorCode.TIMEOUT,
                f"the upload stalled: {self._come_bytes} bytes in {self._within_s:g} s, expected "
                f"{self._due_bytes:.0f} at least; send it again over a faster connection, or in "
                "several jobs",
            ) from error
        self._come_bytes += len(message.get("body", b""))
        if self._come_bytes >= self._due_bytes:
            self._begin()
        return message


async def _keep(sent: FormData, folder: Path) -> list[Upload]:
    """The files of a form, in the job's folder under names of our own."""
    files = [file for file in sent.getlist(_FILES) if isinstance(file, UploadFile)]
    if not files:
        raise ApiError(
            ErrorCode.BAD_REQUEST, f"the form has no {_FILES}: send images, or one video"
        )
    uploads: list[Upload] = []
    for number, file in enumerate(files):
        path = folder / f"upload{number:05d}"
        with path.open("wb") as target:
            while piece := await file.read(_PIECE):
                target.write(piece)
        uploads.append(Upload(file.filename or f"image{number}", path))
    return uploads


def _owner(request: Request) -> str | None:
    """Whose key asks; jobs of others do not exist for it."""
    return request.scope["state"].get("caller")
