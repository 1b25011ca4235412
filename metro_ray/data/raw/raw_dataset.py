"""RawDataset: what all raw data sets share; a subclass says how a row's label is made."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metro_ray.data.bad_rows import BadRow
from metro_ray.data.rows import Row
from metro_ray.errors import DataError

if TYPE_CHECKING:
    from metro_ray.data.raw.files import ImageFolder

_KEPT_OF_A_REASON = 10


class Skipped:
    """Annotations that became no row: counted by reason, the first of each reason named."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._rows: list[BadRow] = []

    def __len__(self) -> int:
        return self._counts.total()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many were left out for each reason."""
        return self._counts

    def add(self, number: int, key: str, reason: str) -> None:
        """Leave out annotation `number` (its place in the annotation file)."""
        self._counts[reason] += 1
        if self._counts[reason] <= _KEPT_OF_A_REASON:
            self._rows.append(BadRow(number, key, reason))

    def rows(self) -> list[BadRow]:
        """The first ten of each reason; `row_id` is the place in the annotation file."""
        return list(self._rows)

    def describe(self) -> str:
        """Part of a line; empty when nothing was left out."""
        if not len(self):
            return ""
        reasons = "; ".join(f"{count} {reason}" for reason, count in self._counts.most_common())
        return f"{len(self)} annotations left out ({reasons})"


class Entries(NamedTuple):
    """What every row of a raw data set has."""

    keys: Sequence[str]
    files: Sequence[str]
    """Pictures, relative to the image folder."""
    skipped: Skipped


class RawDataset(ABC):
    """Rows made on demand from annotations; implements `metro_ray.data.rows.RowDataset`.

    Memory holds the annotations, as arrays. Pickles with them (several processes need not parse the
    files again), without body models. Safe to read from many threads.
    """

    shares = ()

    def __init__(self, title: str, name: str, images: ImageFolder, entries: Entries) -> None:
        """Keep what rows are made from.

        Args:
            title: short name, the name of its one source.
            name: what was opened, for messages.
            images: where the pictures are.
            entries: keys and pictures of the rows, and what became no row.
        """
        if not len(entries.keys):
            raise DataError(
                f"{name}: not one annotation became a row. {entries.skipped.describe()}"
            )
        self.name = name if images.images == "original" else f"{name}, pictures encoded as METRO"
        self._title = title
        self._images = images
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries.keys)

    @property
    def source_names(self) -> tuple[str, ...]:
        """One source: the data set."""
        return (self._title,)

    @property
    def remote(self) -> bool:
        """Whether reading a row is a request over the network."""
        return self._images.remote

    def stamp(self) -> str:
        """Changes with the keys and their order; pictures and labels are not looked at."""
        keys = hashlib.sha256()
        for key in self._entries.keys:
            keys.update(f"{key}\n".encode())
        return f"{self.name}: keys {keys.hexdigest()}"

    @property
    def skipped(self) -> Skipped:
        """Annotations that became no row, with the reasons."""
        return self._entries.skipped

    def key(self, row_id: int) -> str:
        """Key of a row."""
        return self._entries.keys[self._check(row_id)]

    def key_or_number(self, row_id: int) -> str:
        """Key of a row, or `row N` where there is no such row."""
        return self._entries.keys[row_id] if 0 <= row_id < len(self) else f"row {row_id}"

    def row(self, row_id: int) -> Row:
        """Read the picture and make the label.

        Raises:
            DataError: the row does not exist, or one of its files is missing or broken.
        """
        key, file = self.key(row_id), self._entries.files[row_id]
        try:
            image, hw = self._images.read(file)
            label = self._label(row_id)
        except DataError as error:
            raise DataError(f"{self.name}: row {row_id} ({key}): {error}") from error
        return Row(key, image, label, hw, 0, f"{self.name}: {file}")

    def source(self, row_id: int) -> int:
        """Always 0: there is one source."""
        self._check(row_id)
        return 0

    def describe(self) -> str:
        """One line for the log: name, rows, what was left out."""
        parts = (f"{self.name}: {len(self)} rows", self.skipped.describe(), self._remarks())
        return "; ".join(part for part in parts if part)

    @abstractmethod
    def _label(self, row_id: int) -> dict[str, Any]:
        """METRO's label record of a row."""

    def _remarks(self) -> str:
        """What else belongs in `describe`."""
        return ""

    def _check(self, row_id: int) -> int:
        if not 0 <= row_id < len(self):
            raise DataError(
                f"{self.name}: row {row_id} does not exist, the data set has {len(self)} rows"
            )
        return row_id


class Targets(NamedTuple):
    """Labels of one row; None: the row has none of this kind."""

    keypoints_2d: np.ndarray | None = None
    """(..., L, 3): image pixels and confidence."""
    joints_3d: np.ndarray | None = None
    """(..., L, 4): metres and confidence."""
    pose: np.ndarray | None = None
    betas: np.ndarray | None = None


def label_record(
    center: Sequence[float] | np.ndarray, scale: float, targets: Targets, empty: Targets
) -> dict[str, Any]:
    """METRO's label record.

    Args:
        center: box centre (x, y), image pixels.
        scale: box side / 200 px.
        targets: what the row has.
        empty: zeros (of METRO's nesting) that stand in for what it has not.
    """
    keypoints, joints, pose, betas = (
        blank if value is None else value for value, blank in zip(targets, empty, strict=True)
    )
    return {
        "center": [float(value) for value in center],
        "scale": float(scale),
        "2d_joints": keypoints,
        "has_2d_joints": int(targets.keypoints_2d is not None),
        "3d_joints": joints,
        "has_3d_joints": int(targets.joints_3d is not None),
        "pose": pose,
        "betas": betas,
        "has_smpl": int(targets.pose is not None),
    }


def empty_targets(num_joints: int, num_pose: int, nested: bool = True) -> Targets:
    """Zeros for missing labels; METRO's bodies nest joints once more ([1][24][3])."""
    lead = (1,) if nested else ()
    return Targets(
        np.zeros((*lead, num_joints, 3)),
        np.zeros((*lead, num_joints, 4)),
        np.zeros(num_pose),
        np.zeros(10),
    )
