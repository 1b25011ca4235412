"""API keys: who may ask, and how often.

Only hashes are stored. Keys are 256 random bits, so a plain SHA-256 of them cannot be turned round.

    keys:
      - {name: alice, sha256: 3f0c.., requests_per_s: 5, burst: 20}
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import Field, ValidationError

from metro_ray.errors import ConfigError
from metro_ray.serve.problems import ApiError
from metro_ray.serve.schema import ErrorCode
from metro_ray.serve.settings import Access, Settings, explain

_LOG = logging.getLogger(__name__)
VARIABLE = "METRO_RAY_SERVE_KEYS"
_PREFIX = "mr_"
_LOOK_EVERY_S = 2.0


class Key(Settings):
    """One key, by its hash."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Shown in the access log and in metrics."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    requests_per_s: float | None = Field(default=None, gt=0)
    """null: the service's `access.requests_per_s`."""
    burst: int | None = Field(default=None, ge=1)


class KeyFile(Settings):
    """All keys."""

    keys: tuple[Key, ...] = ()


def make_key(name: str, requests_per_s: float | None, burst: int | None) -> tuple[str, Key]:
    """A new key, and what is stored of it.

    Raises:
        ConfigError: a name or rate that cannot be.
    """
    secret = _PREFIX + secrets.token_urlsafe(32)
    try:
        key = Key(name=name, sha256=digest(secret), requests_per_s=requests_per_s, burst=burst)
    except ValidationError as error:
        raise ConfigError(f"a key of this kind cannot be made: {explain(error, Key)}") from error
    return secret, key


def add_key(path: Path, key: Key) -> None:
    """Write a key into a file that only its owner reads; other keys stay.

    Raises:
        ConfigError: the file is no file of keys, or has one of this name.
    """
    keys = parse_keys(path.read_text(encoding="utf-8"), str(path)) if path.exists() else ()
    if key.name in {each.name for each in keys}:
        raise ConfigError(
            f"{path} has a key named {key.name} already: choose another name, or take its line out "
            "(whoever holds it is refused from then on)"
        )
    content = {"keys": [each.model_dump(exclude_none=True) for each in (*keys, key)]}
    partial = path.with_name(path.name + ".part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        yaml.safe_dump(content, file, sort_keys=False)
    partial.replace(path)


def parse_keys(text: str, origin: str) -> tuple[Key, ...]:
    """Read keys from YAML.

    Args:
        text: see above.
        origin: where it comes from, for messages.

    Raises:
        ConfigError: not YAML, or no keys; never repeats the text.
    """
    try:
        content = yaml.safe_load(text) or {}
        keys = KeyFile.model_validate(content).keys
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is not YAML; make keys with `metro-ray serve-key`") from error
    except ValidationError as error:
        raise ConfigError(f"{origin} holds no keys: {explain(error, KeyFile)}") from error
    if len({key.name for key in keys}) < len(keys):
        raise ConfigError(f"{origin} has several keys of one name")
    return keys


def digest(secret: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Caller(NamedTuple):
    """Who asks."""

    name: str
    requests_per_s: float | None
    burst: int


class KeyRing:
    """The keys that are accepted now; a changed file is read anew, so that keys can be revoked.

    Args:
        access: where keys are, and the rate of those that have none.
        environment: os.environ.

    Raises:
        ConfigError: keys are configured, but cannot be read or are none.
    """

    def __init__(self, access: Access, environment: Mapping[str, str] = os.environ) -> None:
        self._access = access
        self._path = None if access.keys_file is None else Path(access.keys_file).expanduser()
        self._stamp: object = None
        self._looked = -math.inf
        self._keys: tuple[Key, ...] = ()
        text = environment.get(VARIABLE)
        self.is_open = self._path is None and text is None
        """Whether everybody may ask."""
        if self._path is not None:
            if not self._path.is_file():
                raise ConfigError(
                    f"file of keys {self._path} does not exist; make one with "
                    f"`metro-ray serve-key NAME --file {self._path}`"
                )
            self._stamp = _stamp(self._path)
            self._keys = parse_keys(self._path.read_text(encoding="utf-8"), str(self._path))
        elif text is not None:
            self._keys = parse_keys(text, VARIABLE)
        if not self.is_open and not self._keys:
            raise ConfigError(
                f"{self._path or VARIABLE} has no key, so nobody could ask: make one with "
                "`metro-ray serve-key`"
            )

    def caller(self, headers: Mapping[str, str]) -> Caller | None:
        """Whose key a request carries; None where keys are not asked for.

        Raises:
            ApiError: no key, or one that is not accepted.
        """
        if self.is_open:
            return None
        self._look()
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        secret = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not secret:
            raise ApiError(
                ErrorCode.UNAUTHORIZED,
                "this service wants a key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            )
        found = digest(secret)
        matching = [key for key in self._keys if hmac.compare_digest(key.sha256, found)]
        if not matching:
            raise ApiError(
                ErrorCode.UNAUTHORIZED, "the key is not accepted; ask who runs this service"
            )
        key = matching[0]
        rate = key.requests_per_s or self._access.requests_per_s
        return Caller(key.name, rate, key.burst or self._access.burst)

    def _look(self) -> None:
        """Read the file again where it has changed; a broken one leaves the keys as they were."""
        now = time.monotonic()
        if self._path is None or now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._keys = parse_keys(self._path.read_text(encoding="utf-8"), str(self._path))
                self._stamp = stamp
        except (OSError, ConfigError) as error:
            _LOG.error("the keys stay as they were: %s", error)


class RateLimiter:
    """A bucket of tokens for each caller: `burst` at most, `requests_per_s` come back.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, caller: Caller) -> None:
        """Take a token.

        Raises:
            ApiError: there is none; says when there will be.
        """
        rate = caller.requests_per_s
        if rate is None:
            return
        now = self._clock()
        tokens, since = self._buckets.get(caller.name, (float(caller.burst), now))
        tokens = min(float(caller.burst), tokens + rate * (now - since))
        if tokens < 1.0:
            self._buckets[caller.name] = (tokens, now)
            wait_s = math.ceil((1.0 - tokens) / rate)
            raise ApiError(
                ErrorCode.RATE_LIMITED,
                f"the key {caller.name} may ask {rate:g} times a second, {caller.burst} at once; "
                f"ask again in {wait_s} s",
                retry_after_s=wait_s,
            )
        self._buckets[caller.name] = (tokens - 1.0, now)


def _stamp(path: Path) -> tuple[int, int, int]:
    about = path.stat()
    return about.st_mtime_ns, about.st_size, about.st_ino
