"""Errors that a user can cause, told without a traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from metro_ray.errors import MetroRayError, RunStopped

USAGE, INTERRUPTED, TERMINATED = 2, 130, 143


@contextmanager
def plain_errors(debug: bool = False) -> Iterator[None]:
    """Turn a `MetroRayError` into its message on stderr and exit status 2.

    Ctrl-C becomes 130; a run that ended well after SIGTERM 143, as shells count it.

    Other exceptions are faults of the program and pass with their traceback.

    Args:
        debug: Show the traceback of a `MetroRayError` too.
    """
    try:
        yield
    except RunStopped as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(TERMINATED) from None
    except MetroRayError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(USAGE) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
