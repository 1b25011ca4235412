"""Gate: what every HTTP request passes before the API sees it, and how it is remembered.

Request id, host, key, rate and size of the body are checked here; every answer gets its headers, a
line of JSON in the access log and a count. Plain ASGI, so nothing of a body is held in memory.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers, MutableHeaders

from metro_ray.serve.problems import STATUS, ApiError
from metro_ray.serve.schema import MODEL_VERSION, REQUEST_ID, ErrorCode

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from metro_ray.serve.keys import KeyRing, RateLimiter
    from metro_ray.serve.metrics import Metrics

ACCESS_LOG = logging.getLogger("metro_ray.serve.access")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEYED = ("/v1/", "/metrics")
_HARMLESS = ("GET", "HEAD", "OPTIONS")
_GONE = 499
"""What logs and metrics count requests as whose client did not wait for an answer."""


class Gate:
    """ASGI middleware, see above.

    Args:
        app: the API.
        keys: who may ask.
        limiter: how often.
        metrics: counts.
        allowed_hosts: names in the headers Host and Origin that are answered; empty: all. Without
            keys this is what keeps web pages of strangers out, whose names can be made to lead to
            127.0.0.1, and which may send forms there.
        body_limit: bytes by the beginning of the path, the longest that fits.
        tells_request_id: whether answers get the header; otherwise a proxy tells the one that it
            found or made, which is taken as it is.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        limiter: RateLimiter,
        metrics: Metrics,
        allowed_hosts: tuple[str, ...],
        body_limit: Mapping[str, int],
        tells_request_id: bool = True,
    ) -> None:
        self._app = app
        self._keys = keys
        self._limiter = limiter
        self._metrics = metrics
        self._hosts = allowed_hosts
        self._tells_request_id = tells_request_id
        self._body_limit = sorted(body_limit.items(), key=lambda item: -len(item[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, receive, send, self._tells_request_id)
        try:
            self._check(passage, scope["path"].removeprefix(scope.get("root_path", "")))
            await self._app(scope, passage.receive, passage.send)
        except ApiError as error:
            if passage.status is not None:
                raise
            await passage.refuse(error)
        finally:
            self._remember(passage, scope)

    def _check(self, passage: _Passage, path: str) -> None:
        headers = passage.headers
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._hosts and name.lower() not in self._hosts:
            raise ApiError(
                ErrorCode.BAD_REQUEST,
                f"Host {host!r} is not answered; this service answers to {', '.join(self._hosts)} "
                "(access.allowed_hosts)",
                status=400,
            )
        origin = headers.get("origin")
        if self._hosts and origin is not None and passage.method not in _HARMLESS:
            self._check_origin(origin)
        if path.startswith(_KEYED):
            caller = self._keys.caller(headers)
            if caller is not None:
                passage.caller = caller.name
                passage.state["caller"] = caller.name
                self._limiter.take(caller)
        passage.max_bytes = next(
            limit for start, limit in self._body_limit if path.startswith(start)
        )
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > passage.max_bytes:
            raise passage.too_large()

    def _check_origin(self, origin: str) -> None:
        """Browsers name the page that sends a form; they send it without asking us first."""
        if (urlsplit(origin).hostname or "") not in self._hosts:
            raise ApiError(
                ErrorCode.BAD_REQUEST,
                f"a page of {origin!r} may not ask; this service answers pages of "
                f"{', '.join(self._hosts)} (access.allowed_hosts), and programs",
                status=403,
            )

    def _remember(self, passage: _Passage, scope: Scope) -> None:
        route = getattr(scope.get("route"), "path", "other")
        status = passage.status or _GONE
        self._metrics.answered(route, status)
        code = scope["state"].get("error_code")
        if code is not None:
            self._metrics.failed(code)
        ACCESS_LOG.info("%s", msgspec.json.encode(passage.record(status, code)).decode())


class _Passage:
    """One request on its way."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, tells_request_id: bool) -> None:
        self._told_by_proxy = not tells_request_id
        self.headers = Headers(scope=scope)
        given = self.headers.get(REQUEST_ID, "")
        is_taken = bool(given) if self._told_by_proxy else _REQUEST_ID.fullmatch(given)
        self.request_id = given if is_taken else uuid.uuid4().hex
        self.state: dict[str, Any] = scope.setdefault("state", {})
        self.state["request_id"] = self.request_id
        self.status: int | None = None
        self.caller: str | None = None
        self.max_bytes = 0
        self.method: str = scope["method"]
        self._scope = scope
        self._receive, self._send = receive, send
        self._start = time.perf_counter()
        self._more_to_come = True
        self._bytes_in = self._bytes_out = 0
        self._version: str | None = None

    async def receive(self) -> Message:
        """A piece of the body, as long as there are not too many.

        Raises:
            ApiError: too large, or the client went before it had sent all.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect" and self._more_to_come:
            raise ApiError(
                ErrorCode.BAD_REQUEST,
                "the connection ended before the whole body had come; send it again",
                status=_GONE,
            )
        self._more_to_come = message.get("more_body", False)
        self._bytes_in += len(message.get("body", b""))
        if self._bytes_in > self.max_bytes:
            raise self.too_large()
        return message

    async def send(self, message: Message) -> None:
        """A piece of the answer; its start gets the headers of all answers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            if not self._told_by_proxy:
                headers[REQUEST_ID] = self.request_id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "no-store")
            if self.status == STATUS[ErrorCode.TIMEOUT] and self._more_to_come:
                headers["Connection"] = "close"  # the rest of a slow body is not waited for
            self._version = headers.get(MODEL_VERSION)
        self._bytes_out += len(message.get("body", b""))
        await self._send(message)

    async def refuse(self, error: ApiError) -> None:
        """Answer with an error."""
        self._scope["state"]["error_code"] = error.code.value
        body = error.body(self.request_id)
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        pairs = [(k.lower().encode(), v.encode()) for k, v in {**headers, **error.headers}.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})

    def too_large(self) -> ApiError:
        """The body is over its limit."""
        return ApiError(
            ErrorCode.TOO_LARGE,
            f"the body is larger than {self.max_bytes} bytes: send smaller or fewer images",
        )

    def record(self, status: int, code: str | None) -> dict[str, Any]:
        """The line of the access log."""
        client = self._scope.get("client")
        return {
            "time": round(time.time(), 3),
            "request_id": self.request_id,
            "method": self.method,
            "path": self._scope["path"],
            "status": status,
            "error": code,
            "key": self.caller,
            "client": None if client is None else client[0],
            "model_version": self._version,
            "bytes_in": self._bytes_in,
            "bytes_out": self._bytes_out,
            "duration_ms": round(1e3 * (time.perf_counter() - self._start), 2),
        }
