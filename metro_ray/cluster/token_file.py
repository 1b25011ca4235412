"""The file that Ray reads its token from: nobody else should be able to."""

from __future__ import annotations

import logging
import os
from pathlib import Path

_LOG = logging.getLogger(__name__)
_DEFAULT = ".ray/auth_token"
_OTHERS = 0o077


def token_file() -> Path | None:
    """The file that this process's token would come from; None where it is no file."""
    if os.environ.get("RAY_AUTH_MODE") == "disabled" or os.environ.get("RAY_AUTH_TOKEN"):
        return None
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / _DEFAULT
    return path if path.is_file() else None


def warn_if_others_can_read_it() -> bool:
    """Say so where other users of the machine can read the token, and how to change that.

    Ray makes its own file readable to all.
    """
    path = token_file()
    if path is None or not path.stat().st_mode & _OTHERS:
        return False
    _LOG.warning(
        "other users of this machine can read the cluster's token in %s, and with it run code on "
        "the cluster: chmod 600 %s",
        path,
        path,
    )
    return True
