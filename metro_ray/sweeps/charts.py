"""Charts of a sweep as inline SVG: no script, light and dark, a line of words for each.

Marks: a filled point or full line is a whole trial, an open point or dashed line one that was
stopped; the best trial is stressed and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from metro_ray.sweeps.axes import Axis

STYLE = """
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1rem;
  margin: 1rem 0; } .charts .broad { grid-column: 1 / -1; }
.charts h2 { margin-bottom: .4rem; } .charts article p { margin: .3rem 0 0; color: var(--quiet);
  font-size: .85rem; }
svg .trial { fill: none; stroke: var(--quiet); stroke-width: 1.2; opacity: .75; }
svg .trial.stopped { stroke-dasharray: 4 3; opacity: .5; }
svg .trial.best { stroke: var(--accent); stroke-width: 2.8; opacity: 1; stroke-dasharray: none; }
svg circle { stroke: var(--quiet); stroke-width: 1.6; fill: var(--quiet); }
svg circle.stopped { fill: var(--card); } svg circle.best { stroke: var(--accent);
  fill: var(--accent); } svg path.cross { stroke: var(--second); stroke-width: 1.8; fill: none; }
svg polyline.front { stroke: var(--second); stroke-width: 1.4; stroke-dasharray: 2 3; }
svg line.axis { stroke: var(--quiet); } svg text.name { fill: var(--text); font-size: 12px; }
.broad svg text { paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
svg text.best { fill: var(--accent); font-weight: 600; }
"""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 14, 40
_MOST_NAMED = 12
"""Points of more trials than this would write their numbers over each other."""


class Mark(NamedTuple):
    """One trial in a chart."""

    label: str
    """For the pointer: what the trial is."""
    name: str
    """Short: its number."""
    values: tuple[Any, ...]
    """By axis."""
    is_whole: bool
    is_best: bool

    @property
    def css(self) -> str:
        """Its classes."""
        words = ["" if self.is_whole else "stopped", "best" if self.is_best else ""]
        return " ".join(filter(None, words))


class Line(NamedTuple):
    """A trial over its epochs."""

    label: str
    name: str
    points: tuple[tuple[float, float], ...]
    is_whole: bool
    is_best: bool
    was_stopped: bool


def parallel(axes: Sequence[Axis], marks: Sequence[Mark], words: str) -> str:
    """One upright axis a setting; a line through them is a trial."""
    width, height = 1100, 300
    step = (width - 160) / max(1, len(axes) - 1)
    floor = height - 30
    parts, named = [], []
    for number, axis in enumerate(axes):
        x = 80 + number * step
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="34" y2="{floor}"/>')
        y = 12 + 14 * (number % 2)  # long names of neighbours do not meet
        name = f'<text class="name" x="{x:.1f}" y="{y}" text-anchor="middle">'
        named.append(f"{name}{escape(axis.title)}</text>")
        for place, text in axis.ticks():
            y = floor - (floor - 34) * place
            parts.append(f'<line x1="{x - 4:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
            named.append(
                f'<text x="{x - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
            )
    for mark in sorted(marks, key=lambda mark: mark.is_best):
        points = " ".join(
            f"{80 + number * step:.1f},{floor - (floor - 34) * axis.place(value):.1f}"
            for number, (axis, value) in enumerate(zip(axes, mark.values, strict=True))
        )
        parts.append(
            f'<polyline class="trial {mark.css}" points="{points}">'
            f"<title>{escape(mark.label)}</title></polyline>"
        )
    title = "Settings and error of every trial"
    return _article(title, words, width, height, parts + named, "broad")


def scatter(
    title: str, x: Axis, y: Axis, marks: Sequence[Mark], words: str, *, front: str | None = None
) -> str:
    """Trials as points.

    Args:
        title: Of the chart.
        x: Axis of `Mark.values[0]`.
        y: Axis of `Mark.values[1]`, smaller is better.
        marks: One a trial.
        words: What is seen, in a sentence.
        front: Draw the trials that no other beats in both: "low" where a small x is good, "high"
            where a large one is.
    """
    width, height = 460, 280
    parts = _frame(x, y, width, height)
    spots = {mark: _spot(x, y, mark.values, width, height) for mark in marks}
    if front is not None:
        edge = [spots[mark] for mark in pareto(marks, front)]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in edge)
        parts.append(f'<polyline class="front" points="{points}"/>')
    for mark, (a, b) in sorted(spots.items(), key=lambda item: item[0].is_best):
        size, hint = (6 if mark.is_best else 4.2), f"<title>{escape(mark.label)}</title>"
        parts.append(
            f'<circle class="{mark.css}" cx="{a:.1f}" cy="{b:.1f}" r="{size}">{hint}</circle>'
        )
        is_right = a > width - 90
        anchor, shift = ("end", -9) if is_right else ("start", 9)
        text = f"trial {mark.name}" if mark.is_best else mark.name
        if len(marks) > _MOST_NAMED and not mark.is_best:
            continue
        parts.append(
            f'<text class="{mark.css}" x="{a + shift:.1f}" y="{b + 4:.1f}" '
            f'text-anchor="{anchor}">{escape(text)}</text>'
        )
    return _article(f"{title} ({y.title})", words, width, height, parts)


def pareto(marks: Sequence[Mark], good: str) -> list[Mark]:
    """The trials that no other beats in both values, by the first."""
    sign = 1.0 if good == "low" else -1.0
    ordered = sorted(marks, key=lambda mark: (sign * mark.values[0], mark.values[1]))
    edge: list[Mark] = []
    for mark in ordered:
        if not edge or mark.values[1] < edge[-1].values[1]:
            edge.append(mark)
    return edge


def trial_curves(title: str, x: Axis, y: Axis, lines: Sequence[Line], words: str) -> str:
    """Error over epochs; a cross is where a trial was stopped."""
    width, height = 1100, 300
    parts = _frame(x, y, width, height)
    for line in sorted(lines, key=lambda line: line.is_best):
        css = " ".join(
            filter(None, ["" if line.is_whole else "stopped", "best" if line.is_best else ""])
        )
        spots = [_spot(x, y, point, width, height) for point in line.points]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in spots)
        hint = f"<title>{escape(line.label)}</title>"
        parts.append(f'<polyline class="trial {css}" points="{points}">{hint}</polyline>')
        a, b = spots[-1]
        if line.was_stopped:
            cross = f"M{a - 4:.1f},{b - 4:.1f}l8,8m0,-8l-8,8"
            parts.append(f'<path class="cross" d="{cross}">{hint}</path>')
        else:
            parts.append(f'<circle class="{css}" cx="{a:.1f}" cy="{b:.1f}" r="4">{hint}</circle>')
        parts.append(
            f'<text class="{css}" x="{a + 8:.1f}" y="{b + 4:.1f}">{escape(line.name)}</text>'
        )
    return _article(f"{title} ({y.title})", words, width, height, parts, "broad")


def share_bars(title: str, shares: Mapping[str, float], words: str) -> str:
    """A bar for each share of a whole."""
    width, height = 460, 26 * len(shares) + 6
    room = width - 180 - 48
    parts = []
    for place, (name, share) in enumerate(shares.items()):
        y = 6 + 26 * place
        parts.append(f'<text x="172" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="180" y="{y}" width="{room * share:.1f}" height="18"/>')
        parts.append(f'<text x="{186 + room * share:.1f}" y="{y + 13}">{100 * share:.0f} %</text>')
    return _article(title, words, width, height, parts)


def _frame(x: Axis, y: Axis, width: int, height: int) -> list[str]:
    floor, right = height - _BOTTOM, width - _RIGHT
    parts = []
    for place, text in y.ticks():
        at = floor - (floor - _TOP) * place
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        )
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    for place, text in x.ticks():
        at = _x_inside(place, width, bool(x.names))
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        parts.append(
            f'<text x="{at:.1f}" y="{floor + 16}" text-anchor="middle">{escape(text)}</text>'
        )
    parts.append(
        f'<text class="name" x="{(_LEFT + right) / 2:.1f}" y="{height - 6}" '
        f'text-anchor="middle">{escape(x.title)}</text>'
    )
    return parts


def _spot(x: Axis, y: Axis, values: Sequence[Any], width: int, height: int) -> tuple[float, float]:
    floor = height - _BOTTOM
    a = _x_inside(x.place(values[0]), width, bool(x.names))
    return a, floor - (floor - _TOP) * y.place(values[1])


def _x_inside(place: float, width: int, is_names: bool) -> float:
    """Names keep away from the ends."""
    left, right = _LEFT, width - _RIGHT
    room = 0.08 * (right - left) if is_names else 0.0
    return left + room + (right - left - 2 * room) * place


def _article(
    title: str, words: str, width: int, height: int, parts: Sequence[str], css: str = ""
) -> str:
    return (
        f'<article class="{css}"><h2>{escape(title)}</h2><svg viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(words)}">{"".join(parts)}</svg>'
        f"<p>{escape(words)}</p></article>"
    )
