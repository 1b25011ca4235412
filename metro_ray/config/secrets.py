"""Passwords and keys stay out of settings.

Settings are written to `config.yaml`, into logs, reports and checkpoints, and a job's command line
is shown by Ray's dashboard. So a URL that carries a secret is refused where settings are read. The
libraries behind the URLs take credentials from the environment (AWS_ACCESS_KEY_ID, ...), from their
own files, or from fsspec's.
"""

from __future__ import annotations

import re

from metro_ray.errors import ConfigError

_PASSWORD = re.compile(r"[A-Za-z][\w+.-]*://[^/\s@]*:[^/\s@]+@")
_SIGNATURE = re.compile(
    r"://\S*[?&](?:x-amz-(?:signature|security-token)|sig|signature|token|access_token|"
    r"password|secret|api_?key)=[^&\s]+",
    re.IGNORECASE,
)


def has_secret(text: str) -> bool:
    """Whether a URL in the text carries a password, a signature or a key."""
    return bool(_PASSWORD.search(text) or _SIGNATURE.search(text))


def require_no_secret(key: str, value: object) -> None:
    """Refuse a URL that carries a secret; the message does not repeat it.

    Args:
        key: Of the setting.
        value: What it is to be; only text, and lists of it, can hold a URL.

    Raises:
        ConfigError: It does.
    """
    parts = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(part, str) and has_secret(part) for part in parts):
        raise ConfigError(
            f"{key} is a URL with a password or key in it, which would be written to config.yaml, "
            "logs and reports; give the URL without it, and the credentials in the environment "
            "(such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or in fsspec's configuration "
            "(~/.config/fsspec/*.json)"
        )
