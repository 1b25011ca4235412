"""Errors that a user can cause, told without a traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from metro_ray.errors import MetroRayError

USAGE, INTERRUPTED = 2, 130


@contextmanager
def plain_errors(debug: bool = False) -> Iterator[None]:
    """Turn a `MetroRayError` into its message on stderr and exit status 2; Ctrl-C into 130.

    Other exceptions are faults of the program and pass with their traceback.

    Args:
        debug: Show the traceback of a `MetroRayError` too.
    """
    try:
        yield
    except MetroRayError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(USAGE) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
