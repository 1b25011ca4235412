"""Axes of a sweep's charts: where a value lies between 0 and 1, and which ticks are written."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metro_ray.config.space import Dimension

_MOST_TICKS = 5
_REACH = 4.0
"""How many times as far from the best as the middle error an axis reaches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A range of numbers, linear or logarithmic, or a row of names."""

    title: str
    low: float = 0.0
    high: float = 1.0
    is_log: bool = False
    names: tuple[str, ...] = ()
    """Of a row of names; empty for numbers."""

    def place(self, value: Any) -> float:
        """Where a value lies, 0 to 1; at an end where it lies beyond."""
        if self.names:
            if len(self.names) == 1:
                return 0.5
            return self.names.index(shown(value)) / (len(self.names) - 1)
        if self.high <= self.low:
            return 0.5
        if self.is_log:
            place = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            place = (value - self.low) / (self.high - self.low)
        return min(max(place, 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and texts."""
        if self.names:
            return [(self.place_of_name(number), name) for number, name in enumerate(self.names)]
        values = self._log_ticks() if self.is_log else self._linear_ticks()
        return [(self.place(value), f"{value:g}") for value in values]

    def place_of_name(self, number: int) -> float:
        """Where the name of this number lies."""
        return 0.5 if len(self.names) == 1 else number / (len(self.names) - 1)

    def _linear_ticks(self) -> list[float]:
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        rough = span / _MOST_TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]

    def _log_ticks(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [m * 10.0**p for p in powers for m in (1, 2, 5)]
        inside = [v for v in values if self.low * (1 - 1e-9) <= v <= self.high * (1 + 1e-9)]
        if len(inside) > _MOST_TICKS + 2:
            inside = [v for v in inside if math.isclose(math.log10(v) % 1, 0, abs_tol=1e-9)]
        return inside or [self.low, self.high]


def axis_of(dimension: Dimension) -> Axis:
    """The axis of a searched setting."""
    if dimension.is_list:
        return Axis(title=dimension.key, names=tuple(map(shown, dimension.values)))
    is_log = dimension.distribution == "loguniform"
    return Axis(title=dimension.key, low=dimension.low, high=dimension.high, is_log=is_log)


def axis_around(title: str, values: Sequence[float], *, is_log: bool = False) -> Axis:
    """An axis that holds all values, with a little room around them."""
    low, high = min(values), max(values)
    if is_log:
        room = (high / low) ** 0.06 if high > low else 1.2
        return Axis(title=title, low=low / room, high=high * room, is_log=True)
    room = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
    return Axis(title=title, low=low - room, high=high + room)


def error_axis(title: str, errors: Sequence[float]) -> Axis:
    """An axis for errors on which the good ones can be told apart.

    It ends where errors are much further from the best than the middle one; worse ones lie at its
    end.
    """
    best, middle = min(errors), statistics.median(errors)
    top = best + _REACH * (middle - best)
    return axis_around(title, [min(error, top) if top > best else error for error in errors])


def shown(value: Any) -> str:
    """A value as a name on an axis."""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
