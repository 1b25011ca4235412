"""Client and AsyncClient: images to meshes over HTTP. Imports neither torch nor ray.

    with Client("http://127.0.0.1:8000") as client:
        [image] = client.predict_body("team.jpg", boxes=[[412, 80, 602, 640]])
        image.people[0].vertices

A request that meets a busy server (429, 503) or a broken connection is sent again, after the
pause that the server asks for or a growing one with jitter; predictions change nothing on the
server, so they can be. `retries` of a client counts how often that was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx2
import tenacity

from metro_ray.serve.client_async import AsyncClient
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
from metro_ray.serve.client_results import FoundImage, FoundPerson, read_npz
from metro_ray.serve.schema import (
    REQUEST_ID,
    Format,
    Job,
    ModelCard,
    ModelList,
    Task,
)

__all__ = ["AsyncClient", "Client", "FoundImage", "FoundPerson"]


class Client(ClientBase):
    """Meshes from a server; may be used by several threads at once, see the module."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._http = httpx2.Client(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def predict_body(
        self,
        images: Image | Sequence[Image],
        boxes: Sequence[Any] | None = None,
        **options: Any,
    ) -> list[FoundImage]:
        """The people of images.

        Args:
            images: one, or several for one request.
            boxes: of one image: its boxes; of several: a list of boxes, or None, for each. An image
                without boxes is looked at in its middle, as METRO's demo does.
            options: see `PredictOptions`.

        Raises:
            DataError: an image cannot be read.
            RequestError: the server refused, or did not answer.
        """
        return self._predict("body", images, boxes, options)

    def predict_hand(
        self,
        images: Image | Sequence[Image],
        boxes: Sequence[Any] | None = None,
        **options: Any,
    ) -> list[FoundImage]:
        """The hands of images; `hand_side="left"` says which they are. As `predict_body`."""
        return self._predict("hand", images, boxes, options)

    def predict_file(
        self,
        task: Task,
        image: Image,
        boxes: Sequence[Box] | None = None,
        *,
        format: Format = "glb",
        **options: Any,
    ) -> bytes:
        """The people of one image as a file: a mesh, the overlay (png), depth, npz or json."""
        call = predict_call(task, [image], [boxes], format, PredictOptions(**options))
        return self._send(call).content

    def models(self) -> list[ModelCard]:
        """What is served."""
        answer = self._send(Call("GET", "v1/models"))
        return ModelList.model_validate_json(answer.content).models

    def ready(self) -> bool:
        """Whether every network is warm; a server that does not answer is not ready."""
        try:
            return self._http.get("readyz").is_success
        except httpx2.TransportError:
            return False

    def submit_job(
        self,
        task: Task,
        files: Sequence[str | Path],
        *,
        format: Format = "npz",
        **options: Any,
    ) -> Job:
        """Have images, or one video, predicted in the background.

        Args:
            task: what to predict.
            files: of images, or of one video.
            format: of the file for each image.
            options: see `PredictOptions`; `model_version` is not among those of a job.

        Raises:
            DataError: a file is not there.
            RequestError: the server refused, or did not answer.
        """
        return read_job(self._send(job_call(task, files, format, PredictOptions(**options))))

    def job(self, job_id: str) -> Job:
        """How far a job is."""
        return read_job(self._send(Call("GET", f"v1/jobs/{job_id}")))

    def cancel_job(self, job_id: str) -> None:
        """Stop a job."""
        self._send(Call("DELETE", f"v1/jobs/{job_id}"))

    def follow_job(self, job_id: str, timeout_s: float | None = None) -> Iterator[Job]:
        """Look at a job now and then; ends with the look at which it is done.

        Raises:
            RequestError: it failed, was cancelled, or takes longer than `timeout_s`.
        """
        begin = time.monotonic()
        while True:
            job = self.job(job_id)
            ends = is_done(job, time.monotonic() - begin, timeout_s)
            yield job
            if ends:
                return
            time.sleep(BETWEEN_LOOKS_S)

    def wait_for_job(self, job_id: str, timeout_s: float | None = None) -> Job:
        """The job when it is done; raises as `follow_job`."""
        *_, job = self.follow_job(job_id, timeout_s)
        return job

    def download_job(self, job_id: str, path: str | Path) -> Path:
        """Write the result of a job that is done, a zip; the file is there whole or not at all."""
        path = Path(path)
        partial = path.with_name(path.name + ".part")

        def fetch() -> None:
            with (
                ConnectionErrors(self.base_url),
                self._http.stream("GET", f"v1/jobs/{job_id}/result") as answer,
                partial.open("wb") as file,
            ):
                if not answer.is_success:
                    answer.read()
                check(answer)
                for chunk in answer.iter_bytes(CHUNK_BYTES):
                    file.write(chunk)

        tenacity.Retrying(**self._retrying(Call("GET", "")))(fetch)
        return partial.replace(path)

    def _predict(
        self, task: Task, images: Any, boxes: Sequence[Any] | None, options: dict[str, Any]
    ) -> list[FoundImage]:
        answer = self._send(npz_call(task, images, boxes, options))
        return read_npz(answer.content, task, answer.headers.get(REQUEST_ID, ""))

    def _send(self, call: Call) -> httpx2.Response:
        def attempt() -> httpx2.Response:
            with ExitStack() as stack, ConnectionErrors(self.base_url):
                return check(self._http.request(**self._request(call, stack)))

        return tenacity.Retrying(**self._retrying(call))(attempt)
