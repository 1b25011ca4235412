"""Charts for HTML pages as inline SVG: histograms, bars, curves. No script, light and dark.

Each has a line of words for those who do not see it; pages put the numbers beside it as a table.
Colours and fonts are those of `page.document`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from jaxtyping import Float, Int

_WIDTH, _HEIGHT, _BOTTOM = 400, 150, 22
_TICKS, _TICK_WIDTH = 6, 64
_CURVE_HEIGHT, _LEFT = 220, 40
_BAR, _NAME_WIDTH, _VALUE_WIDTH = 9, 92, 36
_SERIES = ("one", "two", "three", "four")


def histogram(
    title: str,
    unit: str,
    edges: Float[np.ndarray, " bins+1"],
    counts: Int[np.ndarray, " bins"],
) -> str:
    """Bars as inline SVG with a line of words for those who do not see it."""
    used = np.flatnonzero(counts)
    if not len(used):
        return ""
    first, last = int(used[0]), int(used[-1])
    bars, names = counts[first : last + 1], _bin_names(edges)[first : last + 1]
    step = _WIDTH / max(len(bars), 4)
    tallest = int(bars.max())
    area = _HEIGHT - _BOTTOM - 14
    parts = []
    for place, (count, name) in enumerate(zip(bars.tolist(), names, strict=True)):
        height = area * count / tallest
        x, y = place * step, _HEIGHT - _BOTTOM - height
        hint = f"<title>{escape(name)} {unit}: {count}</title>"
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{height:.1f}">'
            f"{hint}</rect>"
        )
        if place % max(1, -(-len(bars) // _TICKS)) == 0:
            is_last = x > _WIDTH - _TICK_WIDTH
            at, anchor = (_WIDTH, "end") if is_last else (x + 2, "start")
            parts.append(
                f'<text x="{at:.1f}" y="{_HEIGHT - 7}" text-anchor="{anchor}">{escape(name)}</text>'
            )
    floor = _HEIGHT - _BOTTOM
    most = names[int(bars.argmax())]
    words = f"{title}: {int(bars.sum())} values, most ({tallest}) {most} {unit}"
    return (
        f'<article><h2>{escape(title)} <span class="none">({escape(unit)})</span></h2>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(words)}">'
        f'<text x="2" y="11">{tallest}</text>{"".join(parts)}'
        f'<line x1="0" x2="{_WIDTH}" y1="{floor}" y2="{floor}"/></svg></article>'
    )


def spread(title: str, unit: str, values: Float[np.ndarray, " N"], num_bins: int = 30) -> str:
    """Histogram of measured values over an axis from 0; the last bin has the largest 0.5 % too."""
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    top = _round_up(float(np.percentile(values, 99.5)))
    return _measured(title, unit, values, (0.0, top), num_bins, ticks=6)


def signed_spread(
    title: str, unit: str, values: Float[np.ndarray, " N"], num_bins: int = 30
) -> str:
    """Histogram of differences, 0 in the middle; the outermost bins have the largest 1 % too."""
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    top = _round_up(float(np.percentile(np.abs(values), 99.0)))
    return _measured(title, unit, values, (-top, top), num_bins, ticks=5)


def _measured(
    title: str,
    unit: str,
    values: Float[np.ndarray, " N"],
    ends: tuple[float, float],
    num_bins: int,
    ticks: int,
) -> str:
    low, high = ends
    counts, edges = np.histogram(np.clip(values, low, high), num_bins, ends)
    tallest, step, floor = int(counts.max()), _WIDTH / num_bins, _HEIGHT - _BOTTOM
    parts = [f'<text x="2" y="11">{tallest}</text>']
    for place, count in enumerate(counts.tolist()):
        if count:
            height = (floor - 14) * count / tallest
            hint = f"{edges[place]:.4g} to {edges[place + 1]:.4g} {unit}: {count}"
            parts.append(
                f'<rect x="{place * step + 1:.1f}" y="{floor - height:.1f}" '
                f'width="{step - 2:.1f}" height="{height:.1f}"><title>{escape(hint)}</title></rect>'
            )
    beyond = [values.min() < low, values.max() > high]
    for number, value in enumerate(np.linspace(low, high, ticks).tolist()):
        is_first, is_last = number == 0, number == ticks - 1
        anchor = "start" if is_first else "end" if is_last else "middle"
        sign = "≤ " if is_first and beyond[0] else "≥ " if is_last and beyond[1] else ""
        at = _WIDTH * number / (ticks - 1)
        parts.append(
            f'<text x="{at:.1f}" y="{_HEIGHT - 7}" text-anchor="{anchor}">{sign}{value:g}</text>'
        )
    parts.append(f'<line x1="0" x2="{_WIDTH}" y1="{floor}" y2="{floor}"/>')
    middle = f"median {np.median(values):.4g}, mean {values.mean():.4g} {unit}"
    words = f"{title}: {len(values)} values, {middle}"
    return _chart(title, unit, words, _HEIGHT, "".join(parts), (), note=middle)


def bars(title: str, unit: str, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Horizontal bars, a group a name; missing numbers (NaN) have none."""
    numbers = np.array(list(series.values()), np.float64)
    if not np.isfinite(numbers).any():
        return ""
    top = float(np.nanmax(numbers)) or 1.0
    step = _BAR * len(series) + 6
    room = _WIDTH - _NAME_WIDTH - _VALUE_WIDTH
    parts = []
    for place, name in enumerate(names):
        y = place * step
        middle = y + (step - 6) / 2 + 4
        parts.append(
            f'<text x="{_NAME_WIDTH - 6}" y="{middle:.1f}" text-anchor="end">{escape(name)}</text>'
        )
        for number, (label, values) in enumerate(series.items()):
            value = float(values[place])
            if not np.isfinite(value):
                continue
            width, at = room * value / top, y + number * _BAR
            parts.append(
                f'<rect class="{_SERIES[number]}" x="{_NAME_WIDTH}" y="{at}" '
                f'width="{width:.1f}" height="{_BAR - 1}"><title>{escape(name)}, {escape(label)}: '
                f"{value:.1f} {escape(unit)}</title></rect>"
                f'<text x="{_NAME_WIDTH + width + 4:.1f}" y="{at + 7.5}" class="value">'
                f"{value:.1f}</text>"
            )
    ranked = np.nanargmax(numbers[0]) if np.isfinite(numbers[0]).any() else 0
    words = f"{title}: {', '.join(series)} of {len(names)} joints; largest: {names[int(ranked)]}"
    return _chart(title, unit, words, len(names) * step, "".join(parts), list(series))


def curves(
    title: str,
    unit: str,
    x: Float[np.ndarray, " K"],
    series: Mapping[str, Float[np.ndarray, " K"]],
) -> str:
    """Shares, 0 to 1, over a common axis."""
    drawn = {name: y for name, y in series.items() if np.isfinite(y).all()}
    if not drawn:
        return ""
    floor, room = _CURVE_HEIGHT - _BOTTOM, _WIDTH - _LEFT - 12
    span = float(x[-1] - x[0])
    parts = []
    for percent in range(0, 101, 25):
        y = floor - (floor - 8) * percent / 100
        parts.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + room}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>'
        )
    for tick in np.linspace(x[0], x[-1], 6):
        at = _LEFT + room * (tick - x[0]) / span
        parts.append(
            f'<text x="{at:.1f}" y="{_CURVE_HEIGHT - 6}" text-anchor="middle">{tick:g}</text>'
        )
    for number, y in enumerate(drawn.values()):
        points = " ".join(
            f"{_LEFT + room * (a - x[0]) / span:.1f},{floor - (floor - 8) * b:.1f}"
            for a, b in zip(x, y, strict=True)
        )
        parts.append(f'<polyline class="{_SERIES[number]}" points="{points}"/>')
    ends = ", ".join(f"{name} {100 * y[-1]:.1f} % at {x[-1]:g} {unit}" for name, y in drawn.items())
    return _chart(title, unit, f"{title}: {ends}", _CURVE_HEIGHT, "".join(parts), list(drawn))


def _chart(
    title: str,
    unit: str,
    words: str,
    height: float,
    content: str,
    legend: Sequence[str],
    note: str = "",
) -> str:
    keys = escape(note) + "".join(
        f'<span><i class="{_SERIES[number]}"></i>{escape(name)}</span>'
        for number, name in enumerate(legend)
    )
    return (
        f'<article class="chart"><h3>{escape(title)} <span class="none">({escape(unit)})</span>'
        f'</h3><svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(words)}">'
        f'{content}</svg><p class="keys">{keys}</p></article>'
    )


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    steps = np.array([1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]) * power
    return float(steps[steps >= value * (1 - 1e-9)][0])


def _bin_names(edges: Float[np.ndarray, " bins+1"]) -> list[str]:
    names = []
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if np.isinf(low):
            names.append(f"< {high:g}")
        elif np.isinf(high):
            names.append(f"≥ {low:g}")
        else:
            names.append(f"{low:g} to {high:g}")
    return names
