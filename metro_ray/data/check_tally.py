"""Tally: what was counted over some rows. Tallies of parts merge to that of the whole.

Its size does not depend on the number of rows: numbers, fixed histograms, the first rows of each
finding, and at most `MAX_DISTINCT` names of anything (further ones are counted together).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

MAX_EXAMPLES = 10
"""Rows that are kept of each finding, the first ones of the data set."""
MAX_DISTINCT = 500
OTHERS = "others"

BOX_EDGES_PX = np.array([0, *np.round(16 * 2 ** (np.arange(38) / 4)), np.inf])
"""Box sides: four bins an octave from 16 px on."""
CONFIDENCE_EDGES = np.array([-np.inf, *np.linspace(0, 1, 11)[1:-1], np.inf])
POSE_EDGES_DEG = np.array([*np.arange(0, 190, 10), np.inf])
HISTOGRAMS = {
    "box_side_px": BOX_EDGES_PX,
    "joint_confidence": CONFIDENCE_EDGES,
    "pose_angle_deg": POSE_EDGES_DEG,
}


class Example(NamedTuple):
    """A row with a finding."""

    row_id: int
    key: str
    detail: str


class Found(NamedTuple):
    """How often something was found, and where first."""

    count: int
    examples: list[Example]


@dataclass
class SourceTally:
    """Counts of one source."""

    rows: int = 0
    mesh: int = 0
    joints_3d: int = 0
    keypoints_2d: int = 0
    unreadable: int = 0
    """Rows whose text, label or picture training would refuse."""
    formats: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    """`width x height` of pictures."""

    def merge(self, other: SourceTally) -> None:
        """Add the counts of other rows."""
        for name in ("rows", "mesh", "joints_3d", "keypoints_2d", "unreadable"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        _add_counts(self.formats, other.formats)
        _add_counts(self.sizes, other.sizes)


@dataclass
class Tally:
    """Counts of a number of rows."""

    sources: dict[int, SourceTally] = field(default_factory=dict)
    fields: Counter[str] = field(default_factory=Counter)
    """Rows that have each label field."""
    joints: Counter[str] = field(default_factory=Counter)
    """Rows by number of 2D joints."""
    body_models: Counter[str] = field(default_factory=Counter)
    """Rows with mesh labels by body model."""
    found: dict[str, Found] = field(default_factory=dict)
    histograms: dict[str, Int[np.ndarray, " bins"]] = field(default_factory=dict)

    def source(self, number: int) -> SourceTally:
        """Counts of a source, begun where there are none."""
        return self.sources.setdefault(number, SourceTally())

    def add_found(self, code: str, example: Example) -> None:
        """Count a finding in a row."""
        self._merge_found(code, Found(1, [example]))

    def add_numbers(self, name: str, values: Iterable[float]) -> None:
        """Put numbers into a histogram."""
        counts, _ = np.histogram(np.asarray(values, np.float64), HISTOGRAMS[name])
        self.histograms[name] = self.histograms.get(name, 0) + counts

    def count(self, counter: Counter[str], name: str) -> None:
        """Count a name, with the others where there are too many different ones."""
        _add_counts(counter, Counter({name: 1}))

    def merge(self, other: Tally) -> None:
        """Add the counts of other rows; the order of merging does not matter."""
        for number, source in other.sources.items():
            self.source(number).merge(source)
        for name in ("fields", "joints", "body_models"):
            _add_counts(getattr(self, name), getattr(other, name))
        for code, found in other.found.items():
            self._merge_found(code, found)
        for name, counts in other.histograms.items():
            self.histograms[name] = self.histograms.get(name, 0) + counts

    def _merge_found(self, code: str, more: Found) -> None:
        known = self.found.get(code, Found(0, []))
        first = nsmallest(MAX_EXAMPLES, [*known.examples, *more.examples])
        self.found[code] = Found(known.count + more.count, first)


def _add_counts(counter: Counter[str], more: Counter[str]) -> None:
    for name, count in more.items():
        known = name in counter or len(counter) < MAX_DISTINCT
        counter[name if known else OTHERS] += count
