"""What went wrong, in our own words: the user's error out of the layers that Ray wraps it in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from metro_ray.errors import MetroRayError

_LOST_PEER_TYPES = ("DistBackendError", "DistNetworkError", "DistStoreError")
_LOST_PEER_TEXTS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo/")
_PATIENCE_S = 10.0


def find_metro_error(error: BaseException) -> MetroRayError | None:
    """The `MetroRayError` that an exception of Ray stands for, or None.

    Ray raises errors of tasks and actors as objects that hold the original as `cause` and inherit
    from its class; the plain original is returned.
    """
    for inner in _unwrapped(error):
        if isinstance(inner, MetroRayError) and not hasattr(inner, "cause"):
            return inner
    return None


def root_cause(error: BaseException) -> BaseException:
    """The innermost exception: the one that was raised first."""
    *_, last = _unwrapped(error)
    return last


def is_lost_peer(error: BaseException) -> bool:
    """Whether a collective failed because another rank went away.

    PyTorch raises this on the ranks that are left; gloo's is a plain RuntimeError.
    """
    cause = root_cause(error)
    if type(cause).__name__ in _LOST_PEER_TYPES:
        return True
    return isinstance(cause, RuntimeError) and any(text in str(cause) for text in _LOST_PEER_TEXTS)


@contextmanager
def patience_with_peers() -> Iterator[None]:
    """Hold an error back that only says that another rank went away.

    The rank that failed first, or whose process is gone, is then what Ray Train reports; it ends
    this one too.
    """
    try:
        yield
    except Exception as error:
        if is_lost_peer(error):
            time.sleep(_PATIENCE_S)
        raise


def _unwrapped(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo: BaseException | None = error
    while todo is not None and id(todo) not in seen:
        seen.add(id(todo))
        yield todo
        inner = getattr(todo, "cause", None)
        todo = inner if isinstance(inner, BaseException) else (todo.__cause__ or todo.__context__)
