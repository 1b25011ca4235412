"""Predictions: from the request to the answer, within limits of number and time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from metro_ray.models.backbones import IMAGE_SIZE
from metro_ray.serve.answers import encode
from metro_ray.serve.engine import Ask, Engine, Overloaded, Reply, Status, TooLate
from metro_ray.serve.metrics import Metrics
from metro_ray.serve.network import Mesh
from metro_ray.serve.prepare import OpenImage, open_images, place_people, stack_crops
from metro_ray.serve.problems import ApiError, as_api_error, overloaded
from metro_ray.serve.requests import PredictQuery, Wanted, read_request
from metro_ray.serve.schema import (
    ENDINGS,
    MEDIA_TYPES,
    MODEL_VERSION,
    SERVER_TIMING,
    ErrorCode,
    Task,
)
from metro_ray.serve.settings import Limits

_T = TypeVar("_T")
_STATUS_TIMEOUT_S = 5.0


class Predictions:
    """The work behind /v1/body and /v1/hand.

    Args:
        engines: the networks by task.
        limits: of requests.
        metrics: counts.
        threads: that decode and encode.
    """

    def __init__(
        self, engines: Mapping[Task, Engine], limits: Limits, metrics: Metrics, threads: int
    ) -> None:
        self.engines = engines
        self._limits = limits
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="images")
        self._meshes: dict[str, Mesh] = {}
        self._pending = 0

    async def answer(self, task: Task, request: Request, query: PredictQuery) -> Response:
        """Answer a request for people in images.

        Raises:
            ApiError: what went wrong, for the client.
        """
        limits = self._limits
        try:
            with self._admitted():
                async with asyncio.timeout(limits.timeout_s):
                    return await self._answer(task, request, query)
        except Exception as error:
            known = as_api_error(
                error, timeout_s=limits.timeout_s, retry_after_s=limits.retry_after_s
            )
            raise known from error

    async def statuses(self) -> dict[Task, Status]:
        """What is served, by task; tasks whose networks do not answer yet are left out."""
        found = await asyncio.gather(*(self._status(engine) for engine in self.engines.values()))
        pairs = zip(self.engines, found, strict=True)
        return {task: status for task, status in pairs if status is not None}

    async def mesh(self, task: Task) -> Mesh:
        """The surface that a task predicts now.

        Raises:
            ApiError: what went wrong, for the client.
        """
        limits = self._limits
        try:
            async with asyncio.timeout(limits.timeout_s):
                return await self.engines[task].mesh()
        except Exception as error:
            known = as_api_error(
                error, timeout_s=limits.timeout_s, retry_after_s=limits.retry_after_s
            )
            raise known from error

    def engine(self, task: Task) -> Engine:
        """The networks of a task.

        Raises:
            ApiError: it is not served.
        """
        if task not in self.engines:
            raise ApiError(
                ErrorCode.NOT_FOUND,
                f"{task} is not served here; this service predicts {', '.join(self.engines)}",
            )
        return self.engines[task]

    def close(self) -> None:
        """Let its threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Count a request as pending, or refuse it before its body is read."""
        if self._pending >= self._limits.max_pending:
            raise overloaded(self._limits.retry_after_s)
        self._pending += 1
        self._metrics.pending(self._pending)
        try:
            yield
        finally:
            self._pending -= 1
            self._metrics.pending(self._pending)

    async def _answer(self, task: Task, request: Request, query: PredictQuery) -> Response:
        self.engine(task)
        clock = _Clock()
        wanted = await read_request(request, query, task, self._limits)
        images = await self.in_thread(
            lambda: open_images(wanted, task, IMAGE_SIZE, self._limits.max_pixels)
        )
        clock.mark("decode")
        left_s = self._limits.timeout_s - clock.total_s
        version = request.headers.get(MODEL_VERSION)
        body, reply = await self._predict(task, wanted, images, version, left_s, clock)
        times = clock.times_ms()
        self._metrics.predicted(task, reply, len(reply.arrays.cameras), times)
        headers = {
            MODEL_VERSION: reply.card.version,
            SERVER_TIMING: ", ".join(f"{name};dur={value:.2f}" for name, value in times.items()),
        }
        if wanted.format not in ("json", "png"):
            ending = ENDINGS[wanted.format]
            headers["Content-Disposition"] = f'attachment; filename="{task}.{ending}"'
        return Response(body, media_type=MEDIA_TYPES[wanted.format], headers=headers)

    async def predict_opened(
        self, task: Task, wanted: Wanted, load: Callable[[], list[OpenImage]]
    ) -> tuple[bytes, str]:
        """Predict images of a job, waiting while the networks are busy.

        Args:
            task: what to predict.
            wanted: decides the format.
            load: opens the images, in a thread.

        Returns:
            The body of the answer, and the version that gave it.
        """
        clock = _Clock()
        images = await self.in_thread(load)
        clock.mark("decode")
        while True:
            try:
                timeout_s = self._limits.timeout_s
                body, reply = await self._predict(task, wanted, images, None, timeout_s, clock)
            except (Overloaded, TooLate):
                await asyncio.sleep(self._limits.retry_after_s)
            else:
                self._metrics.predicted(task, reply, len(reply.arrays.cameras), clock.times_ms())
                return body, reply.card.version

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """The result of work that would hold the event loop up."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _predict(
        self,
        task: Task,
        wanted: Wanted,
        images: list[OpenImage],
        version: str | None,
        timeout_s: float,
        clock: _Clock,
    ) -> tuple[bytes, Reply]:
        ask = Ask(
            crops=stack_crops(images),
            within_s=timeout_s,
            draw=random.random(),
            version=version,
            vertices=wanted.needs_vertices,
            known_meshes=tuple(self._meshes),
        )
        reply = await self.engines[task].predict(ask)
        clock.mark_call(reply.model_ms)
        if reply.mesh is not None:
            self._meshes[reply.mesh.body_model] = reply.mesh
        return await self.in_thread(lambda: self._encode(wanted, images, reply, clock)), reply

    def _encode(
        self, wanted: Wanted, images: list[OpenImage], reply: Reply, clock: _Clock
    ) -> bytes:
        people = place_people(images, reply.arrays, self._meshes[reply.card.body_model])
        return encode(wanted, images, people, reply, clock.times_ms)

    async def _status(self, engine: Engine) -> Status | None:
        try:
            async with asyncio.timeout(_STATUS_TIMEOUT_S):
                return await engine.status()
        except Exception:  # noqa: BLE001 - a replica that is gone or starting has no status
            return None


class _Clock:
    """Times of the stages of one request."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._ms: dict[str, float] = {}

    @property
    def total_s(self) -> float:
        return time.perf_counter() - self._start

    def mark(self, stage: str) -> None:
        """A stage has ended."""
        now = time.perf_counter()
        self._ms[stage] = 1e3 * (now - self._last)
        self._last = now

    def mark_call(self, model_ms: float) -> None:
        """The network has answered: all but its own time is waiting."""
        self.mark("queue")
        self._ms["queue"] = max(0.0, self._ms["queue"] - model_ms)
        self._ms["model"] = model_ms

    def times_ms(self) -> dict[str, float]:
        """All stages; encoding until now."""
        now = time.perf_counter()
        return self._ms | {
            "encode": 1e3 * (now - self._last),
            "total": 1e3 * (now - self._start),
        }
