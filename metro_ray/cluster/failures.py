"""What went wrong, in our own words: the user's error out of the layers that Ray wraps it in."""

from __future__ import annotations

from collections.abc import Iterator

from metro_ray.errors import MetroRayError


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


def _unwrapped(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo: BaseException | None = error
    while todo is not None and id(todo) not in seen:
        seen.add(id(todo))
        yield todo
        inner = getattr(todo, "cause", None)
        todo = inner if isinstance(inner, BaseException) else (todo.__cause__ or todo.__context__)
