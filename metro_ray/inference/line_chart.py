"""Curves over steps for HTML pages as inline SVG: any range, linear or logarithmic, no script.

Each has a line of words for those who do not see it. Pages add `STYLE` to their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 230, 52, 10, 8, 22
_MOST_POINTS, _TICKS = 300, 5
_COLORS = ("#2764c5", "#d0590b", "#14866d", "#b03a86", "#8a6d00", "#5b5f66", "#7a4fd0", "#0f8fb3")

STYLE = (
    "".join(
        f".line{n} {{ --tone: {color}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ .line{n} "
        f"{{ --tone: color-mix(in srgb, {color} 62%, white); }} }}\n"
        for n, color in enumerate(_COLORS)
    )
    + """
.lines polyline { stroke: var(--tone); stroke-width: 1.8; } .lines circle { fill: var(--tone); }
.lines line.level { stroke: var(--tone); stroke-dasharray: 5 4; }
.lines .keys i { border-color: var(--tone); }
.lines .keys i.level { border-top-style: dashed; }
"""
)


class Line(NamedTuple):
    """One curve."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_chart(
    title: str,
    unit: str,
    lines: Sequence[Line],
    *,
    log: bool = False,
    levels: Mapping[str, float] | None = None,
    x_name: str = "step",
    most: float | None = None,
) -> str:
    """Curves in one frame; "" where no curve has a point.

    Args:
        title: Plain text.
        unit: Of y, plain text.
        lines: At most eight have colours of their own. Points that are not finite, and with `log`
            those not above 0, are left out; long curves are thinned to means of neighbours.
        log: Logarithmic y axis; else it begins at 0 or below.
        levels: Horizontal dashed lines by name, in the colour of the curve of that name.
        x_name: What x counts.
        most: Top of a linear axis, where it is known (1 for shares).
    """
    drawn = [line for line in (_thinned(line, log) for line in lines) if len(line.x)]
    if not drawn:
        return ""
    levels = {n: v for n, v in (levels or {}).items() if math.isfinite(v) and (v > 0 or not log)}
    x_low, x_high = min(min(line.x) for line in drawn), max(max(line.x) for line in drawn)
    values = [value for line in drawn for value in line.y] + list(levels.values())
    ticks = _log_ticks(values) if log else _ticks(min(0.0, *values), most or max(values))
    low, high = ticks[0], ticks[-1]
    frame = _Frame(x_low, x_high, low, high, log)
    parts = [_axes(frame, ticks)]
    keys, colors = [], {}
    for line in drawn:
        tone = colors.setdefault(line.name, len(colors) % len(_COLORS))
        parts.append(_curve(frame, line, tone))
        keys.append(f'<span><i class="line{tone}"></i>{escape(line.name)}</span>')
    for name, value in levels.items():
        tone = colors.get(name, len(_COLORS) - 1)
        y = frame.y(value)
        parts.append(
            f'<line class="level line{tone}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    if levels:
        keys.append('<span><i class="level line5"></i>mean mesh</span>')
    ends = ", ".join(f"{line.name} {line.y[0]:.4g} to {line.y[-1]:.4g}" for line in drawn)
    words = f"{title} in {unit} over {x_name} {x_low:g} to {x_high:g}: {ends}"
    legend = f'<p class="keys">{"".join(keys)}</p>' if len(keys) > 1 else ""
    return (
        f'<article class="chart lines"><h3>{escape(title)} <span class="none">({escape(unit)})'
        f'</span></h3><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(words)}">{"".join(parts)}</svg>{legend}</article>'
    )


class _Frame(NamedTuple):
    """From values to places."""

    x_low: float
    x_high: float
    low: float
    high: float
    log: bool

    def x(self, value: float) -> float:
        span = self.x_high - self.x_low
        share = (value - self.x_low) / span if span > 0 else 0.5
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share

    def y(self, value: float) -> float:
        low, high = (math.log10(v) if self.log else v for v in (self.low, self.high))
        share = ((math.log10(value) if self.log else value) - low) / (high - low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * min(max(share, 0.0), 1.0)


def _axes(frame: _Frame, ticks: Sequence[float]) -> str:
    parts = [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{frame.y(v):.1f}" y2="{frame.y(v):.1f}"/>'
        f'<text x="{_LEFT - 5}" y="{frame.y(v) + 4:.1f}" text-anchor="end">{_label(v)}</text>'
        for v in ticks
    ]
    places = _ticks(frame.x_low, frame.x_high)
    parts += [
        f'<text x="{frame.x(v):.1f}" y="{_HEIGHT - 6}" '
        f'text-anchor="{"end" if frame.x(v) > _WIDTH - 30 else "middle"}">{_label(v)}</text>'
        for v in places
        if frame.x_low <= v <= frame.x_high and v == round(v)  # steps and epochs are whole
    ]
    return "".join(parts)


def _curve(frame: _Frame, line: Line, tone: int) -> str:
    if len(line.x) == 1:
        x, y = frame.x(line.x[0]), frame.y(line.y[0])
        return f'<circle class="line{tone}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    pairs = zip(line.x, line.y, strict=True)
    points = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in pairs)
    return f'<polyline class="line{tone}" points="{points}"/>'


def _thinned(line: Line, log: bool) -> Line:
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    keep = np.isfinite(y) & ((y > 0) | (not log))
    x, y = x[keep], y[keep]
    if len(x) > _MOST_POINTS:
        groups = np.array_split(np.arange(len(x)), _MOST_POINTS)
        x, y = (np.array([axis[group].mean() for group in groups]) for axis in (x, y))
    return Line(line.name, x.tolist(), y.tolist())


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` to at least `high`."""
    span = high - low
    if span <= 0:
        low, span = min(low, 0.0), abs(high) or 1.0
        high = low + span
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    step = next(power * m for m in (1, 2, 2.5, 5, 10, 20) if span / (power * m) <= _TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * number for number in range(first, last + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """Powers of ten, or 1, 2 and 5 times them where there are few."""
    low, high = min(values), max(values)
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    if last - first > 2:
        every = -(-(last - first) // 6)
        return [10.0**power for power in range(first, last + every, every)]
    fine = [m * 10.0**power for power in range(first, last + 1) for m in (1.0, 2.0, 5.0)]
    below = max((v for v in fine if v <= low), default=fine[0])
    above = min((v for v in fine if v >= high), default=fine[-1])
    kept = [v for v in fine if below <= v <= above]
    return kept if len(kept) > 1 else fine[:2]


def _label(value: float) -> str:
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if sign == 'k' else limit):g}{sign}"
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.6g}"
    return f"{value:.0e}".replace("e-0", "e-")
