"""ApiError: what a client is told, with its status and code; and how other errors become one."""

from __future__ import annotations

import logging

from metro_ray.errors import DataError
from metro_ray.serve.engine import Overloaded, TooLate, VersionNotServed
from metro_ray.serve.schema import ErrorAnswer, ErrorCode, ErrorDetail

_LOG = logging.getLogger(__name__)

STATUS: dict[ErrorCode, int] = {
    ErrorCode.BAD_IMAGE: 400,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.TOO_MANY_PIXELS: 413,
    ErrorCode.BAD_REQUEST: 422,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.TIMEOUT: 408,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.INTERNAL: 500,
}


class ApiError(Exception):
    """An answer that is not 2xx.

    Args:
        code: decides the status, unless `status` does.
        message: what was wrong, what was expected, what to do next.
        status: of HTTP.
        retry_after_s: when to ask again.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = STATUS[code] if status is None else status
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """Beside the body."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.code is ErrorCode.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    def body(self, request_id: str) -> bytes:
        """JSON as `ErrorAnswer`."""
        detail = ErrorDetail(code=self.code, message=self.message, request_id=request_id)
        return ErrorAnswer(error=detail).model_dump_json().encode()


def as_api_error(error: Exception, *, timeout_s: float, retry_after_s: int) -> ApiError:
    """What the client is told about an error; unforeseen ones are logged and not told.

    Args:
        error: that ended a request.
        timeout_s: that a request may take, for the message.
        retry_after_s: that refused clients are told.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Overloaded):
        return overloaded(retry_after_s)
    if isinstance(error, TimeoutError):  # TooLate is one
        where = " in the queue" if isinstance(error, TooLate) else ""
        return ApiError(
            ErrorCode.TIMEOUT,
            f"the request took longer than {timeout_s:g} s{where} and was dropped; send fewer "
            "people, or ask again when there is less to do",
        )
    if isinstance(error, VersionNotServed):
        return ApiError(ErrorCode.NOT_FOUND, str(error))
    if isinstance(error, DataError):
        return ApiError(ErrorCode.BAD_REQUEST, str(error))
    _LOG.error("a request failed", exc_info=error)
    return ApiError(
        ErrorCode.INTERNAL,
        "the server failed; it is not the request's fault. The server's log has the reason under "
        "this request_id",
    )


def overloaded(retry_after_s: int) -> ApiError:
    """503: the queue is full."""
    return ApiError(
        ErrorCode.OVERLOADED,
        f"too many requests are waiting; ask again in {retry_after_s} s, with growing pauses",
        retry_after_s=retry_after_s,
    )
