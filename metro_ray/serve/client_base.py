"""What both clients have in common: settings, errors, and when to ask again."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import httpx2
import tenacity

from metro_ray.errors import ConfigError, RequestError
from metro_ray.serve.client_calls import Call, PredictOptions, form_files, predict_call
from metro_ray.serve.schema import REQUEST_ID, ErrorAnswer, Job, Task

_LOG = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 20.0
LONGEST_RETRY_AFTER_S = 120.0
BETWEEN_LOOKS_S = 1.0
"""At a job that is waited for."""
CHUNK_BYTES = 1 << 20
_BUSY = (429, 503)
_FINISHED = ("done", "failed", "cancelled")


class ClientBase:
    """What both clients have in common.

    Args:
        base_url: of the server, with its route prefix if it has one.
        api_key: sent with each request.
        timeout: seconds without any progress after which an attempt has failed.
        retries: attempts after the first.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 4,
    ) -> None:
        _check_settings(base_url, retries)
        self.base_url = base_url.rstrip("/")
        self.retries = 0
        """How often a request was sent again so far."""
        self._max_retries = retries
        self._lock = threading.Lock()
        self._options: dict[str, Any] = {
            "base_url": self.base_url + "/",
            "headers": _auth_headers(api_key),
            "timeout": timeout,
        }

    def _count(self) -> None:
        with self._lock:
            self.retries += 1

    def _retrying(self, call: Call) -> dict[str, Any]:
        return _retry_settings(self._max_retries, self._count, call.is_idempotent)

    def _request(self, call: Call, stack: ExitStack) -> dict[str, Any]:
        given: dict[str, Any] = {"method": call.method, "url": call.path, "headers": call.headers}
        if not call.files:
            return given | {"params": call.params, "content": call.content}
        files = form_files(call.files)
        for _, (_, file, _) in files:
            stack.callback(file.close)
        return given | {"data": dict(call.params), "files": files}


class ConnectionErrors:
    """Tells failures of the connection as a `RequestError`."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx2.TransportError):
            raise _unreachable(error, self._base_url) from error


def npz_call(task: Task, images: Any, boxes: Sequence[Any] | None, options: dict[str, Any]) -> Call:
    """One image or several, with boxes as `Client.predict_body` takes them, to be told as NPZ."""
    is_one = not isinstance(images, list | tuple)
    several = [images] if is_one else list(images)
    if boxes is None:
        boxes = [None] * len(several)
    elif is_one:
        boxes = [boxes]
    return predict_call(task, several, boxes, "npz", PredictOptions(**options))


def read_job(answer: httpx2.Response) -> Job:
    """The job of an answer."""
    return Job.model_validate_json(answer.content)


def is_done(job: Job, waited_s: float, timeout_s: float | None) -> bool:
    """Whether a job that is waited for is done.

    Raises:
        RequestError: it failed, was cancelled, or was waited for longer than `timeout_s`.
    """
    if job.state == "done":
        return True
    if job.state in _FINISHED:
        reason = f": {job.error}" if job.error else ""
        raise RequestError(f"job {job.id} {job.state}{reason}", code=f"job_{job.state}")
    if timeout_s is not None and waited_s >= timeout_s:
        raise RequestError(
            f"job {job.id} is {job.state} after {waited_s:.0f} s ({job.done} of {job.total}); it "
            "goes on, and can be waited for again",
            code="job_timeout",
        )
    return False


def check(response: httpx2.Response) -> httpx2.Response:
    """Pass an answer on.

    Raises:
        RequestError: the answer is an error, told in the server's words.
    """
    if response.is_success:
        return response
    request_id = response.headers.get(REQUEST_ID)
    try:
        told = ErrorAnswer.model_validate_json(response.content).error
        code, message, request_id = told.code.value, told.message, told.request_id
    except ValueError:
        code = "unexpected_answer"
        message = (
            f"{response.request.url} answered {response.status_code} {response.reason_phrase} "
            "without saying why: is this a metro_ray server?"
        )
    raise RequestError(
        message,
        code=code,
        status=response.status_code,
        request_id=request_id,
        retry_after_s=_seconds(response.headers.get("Retry-After")),
    )


def _unreachable(error: httpx2.TransportError, base_url: str) -> RequestError:
    """What to tell of a connection that failed."""
    slow = isinstance(error, httpx2.TimeoutException)
    reason = str(error) or type(error).__name__
    return RequestError(
        f"{base_url} did not answer ({reason}): "
        + ("it is slow or far away; give a longer timeout" if slow else "is the server running?"),
        code="unreachable",
    )


def _retry_settings(retries: int, count: Callable[[], None], is_idempotent: bool) -> dict[str, Any]:
    """How tenacity asks again.

    Args:
        retries: attempts after the first.
        count: called with each attempt that failed and is followed by another.
        is_idempotent: whether the server may get the request twice.
    """
    pause = tenacity.wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, RequestError) else None
        # Those who were sent away together shall not come back together.
        return pause(state) if asked is None else asked + random.uniform(0.0, FIRST_PAUSE_S)

    def may_pass(error: BaseException) -> bool:
        if not isinstance(error, RequestError):
            return False
        if error.status in _BUSY:
            return (error.retry_after_s or 0.0) <= LONGEST_RETRY_AFTER_S
        not_sent = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
        return error.code == "unreachable" and (is_idempotent or not_sent)

    def before(state: tenacity.RetryCallState) -> None:
        count()
        error = state.outcome.exception() if state.outcome else None
        _LOG.info("attempt %d failed (%s); another follows", state.attempt_number, error)

    return {
        "stop": tenacity.stop_after_attempt(retries + 1),
        "wait": wait,
        "retry": tenacity.retry_if_exception(may_pass),
        "before_sleep": before,
        "reraise": True,
    }


def _check_settings(base_url: str, retries: int) -> None:
    """Refuse settings no request could be made with.

    Raises:
        ConfigError: says what is expected.
    """
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(f"got the URL {base_url!r}; expected one like http://127.0.0.1:8000")
    if retries < 0:
        raise ConfigError(f"retries must be 0 or more, got {retries}")


def _auth_headers(api_key: str | None) -> dict[str, str]:
    """The key, if there is one."""
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None
