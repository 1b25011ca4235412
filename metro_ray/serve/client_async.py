"""AsyncClient: `Client` for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx2
import tenacity

from metro_ray.serve.client_base import (
    BETWEEN_LOOKS_S,
    CHUNK_BYTES,
    ClientBase,
    ConnectionErrors,
    check,
    is_done,
    npz_call,
    read_job,
)
from metro_ray.serve.client_calls import Box, Call, Image, PredictOptions, job_call, predict_call
from metro_ray.serve.client_results import FoundImage, read_npz
from metro_ray.serve.schema import (
    REQUEST_ID,
    Format,
    Job,
    ModelCard,
    ModelList,
    Task,
)


class AsyncClient(ClientBase):
    """`Client` for asyncio: the same methods, to be awaited."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._http = httpx2.AsyncClient(**self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def predict_body(
        self,
        images: Image | Sequence[Image],
        boxes: Sequence[Any] | None = None,
        **options: Any,
    ) -> list[FoundImage]:
        """See `Client.predict_body`."""
        return await self._predict("body", images, boxes, options)

    async def predict_hand(
        self,
        images: Image | Sequence[Image],
        boxes: Sequence[Any] | None = None,
        **options: Any,
    ) -> list[FoundImage]:
        """See `Client.predict_hand`."""
        return await self._predict("hand", images, boxes, options)

    async def predict_file(
        self,
        task: Task,
        image: Image,
        boxes: Sequence[Box] | None = None,
        *,
        format: Format = "glb",
        **options: Any,
    ) -> bytes:
        """See `Client.predict_file`."""
        call = predict_call(task, [image], [boxes], format, PredictOptions(**options))
        return (await self._send(call)).content

    async def models(self) -> list[ModelCard]:
        """See `Client.models`."""
        answer = await self._send(Call("GET", "v1/models"))
        return ModelList.model_validate_json(answer.content).models

    async def ready(self) -> bool:
        """See `Client.ready`."""
        try:
            return (await self._http.get("readyz")).is_success
        except httpx2.TransportError:
            return False

    async def submit_job(
        self,
        task: Task,
        files: Sequence[str | Path],
        *,
        format: Format = "npz",
        **options: Any,
    ) -> Job:
        """See `Client.submit_job`."""
        call = job_call(task, files, format, PredictOptions(**options))
        return read_job(await self._send(call))

    async def job(self, job_id: str) -> Job:
        """See `Client.job`."""
        return read_job(await self._send(Call("GET", f"v1/jobs/{job_id}")))

    async def cancel_job(self, job_id: str) -> None:
        """See `Client.cancel_job`."""
        await self._send(Call("DELETE", f"v1/jobs/{job_id}"))

    async def follow_job(self, job_id: str, timeout_s: float | None = None) -> AsyncIterator[Job]:
        """See `Client.follow_job`."""
        begin = time.monotonic()
        while True:
            job = await self.job(job_id)
            ends = is_done(job, time.monotonic() - begin, timeout_s)
            yield job
            if ends:
                return
            await asyncio.sleep(BETWEEN_LOOKS_S)

    async def wait_for_job(self, job_id: str, timeout_s: float | None = None) -> Job:
        """See `Client.wait_for_job`."""
        *_, job = [job async for job in self.follow_job(job_id, timeout_s)]
        return job

    async def download_job(self, job_id: str, path: str | Path) -> Path:
        """See `Client.download_job`."""
        path = Path(path)
        partial = path.with_name(path.name + ".part")

        async def fetch() -> None:
            with ConnectionErrors(self.base_url), partial.open("wb") as file:
                async with self._http.stream("GET", f"v1/jobs/{job_id}/result") as answer:
                    if not answer.is_success:
                        await answer.aread()
                    check(answer)
                    async for chunk in answer.aiter_bytes(CHUNK_BYTES):
                        file.write(chunk)

        await tenacity.AsyncRetrying(**self._retrying(Call("GET", "")))(fetch)
        return partial.replace(path)

    async def _predict(
        self, task: Task, images: Any, boxes: Sequence[Any] | None, options: dict[str, Any]
    ) -> list[FoundImage]:
        answer = await self._send(npz_call(task, images, boxes, options))
        return read_npz(answer.content, task, answer.headers.get(REQUEST_ID, ""))

    async def _send(self, call: Call) -> httpx2.Response:
        async def attempt() -> httpx2.Response:
            with ExitStack() as stack, ConnectionErrors(self.base_url):
                return check(await self._http.request(**self._request(call, stack)))

        return await tenacity.AsyncRetrying(**self._retrying(call))(attempt)
