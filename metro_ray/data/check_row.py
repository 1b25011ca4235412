"""Look at one row of a data set: everything that can be said of it without its neighbours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from metro_ray.data.check_geometry import Numbers, inspect_numbers
from metro_ray.data.check_image import ImageFacts, inspect_image
from metro_ray.data.check_label import LabelFacts, inspect_label
from metro_ray.data.check_rules import RULES, Problem
from metro_ray.data.check_tally import Example, Tally
from metro_ray.data.rows import KeyedFiles, Row, RowDataset
from metro_ray.errors import DataError

NO_HASH = 0
"""Stands for a row that could not be read."""


@dataclass
class RowFacts:
    """What is known of one row."""

    row_id: int
    key: str
    source: int = 0
    row: Row | None = None
    """None where it cannot be read."""
    image: ImageFacts | None = None
    label: LabelFacts | None = None
    numbers: Numbers = field(default_factory=Numbers)
    problems: list[Problem] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether training would take the row."""
        return (
            self.image is not None
            and self.image.size is not None
            and self.label is not None
            and self.label.label is not None
            and not any(problem.code == "box-wrong" for problem in self.problems)
        )


def inspect_row(dataset: RowDataset, row_id: int, kind: str) -> RowFacts:
    """Read a row and check all of it; a broken row is a finding, not an error.

    Args:
        dataset: where the row is.
        row_id: which row.
        kind: `body` or `hand`.
    """
    try:
        row = dataset.row(row_id)
        keys = dataset.file_keys(row_id) if isinstance(dataset, KeyedFiles) else {}
    except (DataError, ValueError, TypeError, LookupError, RecursionError) as error:
        problem = Problem("row-broken", str(error) or type(error).__name__)
        key, source = dataset.key_or_number(row_id), _source(dataset, row_id)
        return RowFacts(row_id, key, source, problems=[problem])
    facts = RowFacts(row_id, row.key, row.source, row, problems=_compare_keys(keys))
    facts.image = inspect_image(row.image_bytes, row.hw)
    facts.label = inspect_label(row.label, kind)
    facts.problems += [*facts.image.problems, *facts.label.problems]
    label, size = facts.label.label, facts.image.size
    if label is not None:
        facts.numbers, problems = inspect_numbers(label, facts.label.spec, size)
        facts.problems += problems
    return facts


def _source(dataset: RowDataset, row_id: int) -> int:
    try:
        return dataset.source(row_id)
    except DataError:
        return 0


def _compare_keys(keys: dict[str, str]) -> list[Problem]:
    if len(set(keys.values())) <= 1:
        return []
    shown = ", ".join(f"{file}: {key!r}" for file, key in keys.items())
    return [Problem("key-differs", shown)]


def add_row(tally: Tally, facts: RowFacts) -> None:
    """Count a row."""
    source = tally.source(facts.source)
    source.rows += 1
    source.unreadable += not facts.usable
    for problem in facts.problems:
        assert problem.code in RULES, problem.code
        tally.add_found(problem.code, Example(facts.row_id, facts.key, problem.detail))
    if facts.row is None or facts.image is None or facts.label is None:
        return
    for name in facts.row.label:
        tally.count(tally.fields, str(name))
    tally.count(source.formats, facts.image.format)
    if facts.image.size is not None:
        height, width = facts.image.size
        tally.count(source.sizes, f"{width} x {height}")
    if facts.label.num_joints is not None:
        tally.count(tally.joints, str(facts.label.num_joints))
    label = facts.label.label
    if label is None:
        return
    source.mesh += label.has_mesh
    source.joints_3d += label.has_joints_3d
    source.keypoints_2d += label.has_keypoints_2d
    if label.has_mesh:
        tally.count(tally.body_models, facts.label.body_model)
    _add_numbers(tally, facts.numbers)


def _add_numbers(tally: Tally, numbers: Numbers) -> None:
    if numbers.box_side_px is not None:
        tally.add_numbers("box_side_px", [numbers.box_side_px])
    if numbers.confidences is not None:
        tally.add_numbers("joint_confidence", numbers.confidences)
    if numbers.pose_deg is not None:
        tally.add_numbers("pose_angle_deg", numbers.pose_deg)


def row_hashes(facts: RowFacts) -> tuple[int, int]:
    """64 bits of (source, key) and of where the row lies, to find rows that come twice."""
    if facts.row is None:
        return NO_HASH, NO_HASH
    return _hash(f"{facts.source}\0{facts.key}"), _hash(facts.row.where)


def _hash(text: str) -> int:
    if not text:
        return NO_HASH
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
