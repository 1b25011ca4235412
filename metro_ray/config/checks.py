"""What the sections of the settings are checked with."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from metro_ray.errors import ConfigError


class Strict:
    """What pydantic refuses when it validates a section."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}


def require(condition: bool, key: str, expected: str, got: object) -> None:
    """Raise a ConfigError that names the key, what was expected and what was given."""
    if not condition:
        raise ConfigError(f"{key} must be {expected}, got {got!r}")


def at_least(minimum: int, section: str, config: object, *names: str) -> None:
    """Refuse fields of a section below `minimum` or infinite; None passes."""
    for name in names:
        value = getattr(config, name)
        fits = value is None or minimum <= value < math.inf
        require(fits, f"{section}.{name}", f">= {minimum}", value)


def positive(section: str, config: object, *names: str) -> None:
    """Refuse fields of a section that are not above zero and finite; None passes."""
    for name in names:
        value = getattr(config, name)
        require(value is None or 0 < value < math.inf, f"{section}.{name}", "> 0", value)


def below_one(section: str, config: object, *names: str) -> None:
    """Refuse fields of a section outside of [0, 1); None passes."""
    for name in names:
        value = getattr(config, name)
        require(value is None or 0 <= value < 1, f"{section}.{name}", "within [0, 1)", value)
