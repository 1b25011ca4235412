"""What to predict: the pictures and videos that were named, and the people marked in them.

Boxes are JSON. Each key is a file, by its path below the folder that was named or by its name; its
value lists the people (or hands) in it:

    {"team.jpg": [[412, 80, 190, 560], {"box": [700, 95, 180, 540], "kind": "body"}],
     "wave.png": [{"box": [33, 40, 120, 118], "hand": "left"}],
     "clip.mp4": {"0": [[10, 20, 200, 400]], "1": [[12, 21, 200, 398]]}}

A box is [x, y, width, height] in pixels from the picture's upper left corner, and becomes METRO's
square of 1.2 times its longer side. A list for a video holds for all its frames; an object has a
list for each frame, and frames that it leaves out have nobody in them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from metro_ray.errors import DataError
from metro_ray.geometry.boxes import Box, box_from_rectangle
from metro_ray.inference.cutouts import Hand

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
_HANDS = ("left", "right")
_KINDS = ("body", "hand")
_ENTRY = '[x, y, width, height], or {"box": [..], "hand": "left"}'


@dataclass(frozen=True, slots=True)
class Person:
    """Whom to predict in a picture; what is None is left to the defaults."""

    rectangle: tuple[float, float, float, float] | None = None
    """(x, y, width, height) around the person or hand, pixels; None is the picture's middle."""
    hand: Hand | None = None
    kind: str | None = None
    """`body` or `hand`, where the file of boxes says so."""

    @property
    def box(self) -> Box | None:
        """METRO's square around the rectangle."""
        return None if self.rectangle is None else box_from_rectangle(*self.rectangle)


NO_BOX = (Person(),)
"""One person, in the middle of the picture."""


@dataclass(frozen=True, slots=True)
class Source:
    """A picture or video file."""

    path: Path
    name: str
    """Path below the folder that was named, with slashes; else the file's name."""

    @property
    def is_video(self) -> bool:
        """Told from the ending."""
        return self.path.suffix.lower() in VIDEOS

    @property
    def folder_name(self) -> str:
        """`sub/photo.jpg` -> `sub/photo_jpg`."""
        stem, _, ending = self.name.rpartition(".")
        return f"{stem}_{ending}" if stem else self.name


@dataclass(frozen=True, slots=True)
class Found:
    """What was found under the paths that were named."""

    sources: tuple[Source, ...]
    num_skipped: int
    """Files in folders that are neither pictures nor videos."""


def find_sources(paths: Sequence[Path], *, recursive: bool = False) -> Found:
    """The pictures and videos under files and folders, sorted within a folder.

    Args:
        paths: files, taken whatever their ending, and folders, of which pictures and videos are.
        recursive: also look into folders of folders.

    Raises:
        DataError: a path that is not there, a folder without pictures, or two files of one name.
    """
    sources: list[Source] = []
    num_skipped = 0
    for path in paths:
        if path.is_dir():
            inside, skipped = _in_folder(path, recursive)
            sources += inside
            num_skipped += skipped
        elif path.is_file():
            sources.append(Source(path, path.name))
        else:
            raise DataError(f"{path} does not exist; expected a picture, a video or a folder")
    named: dict[str, Source] = {}
    for source in sources:
        other = named.setdefault(source.folder_name, source)
        if other is not source:
            raise DataError(
                f"{other.path} and {source.path} would be written to the same folder "
                f"{source.folder_name}: predict them in two runs with their own --out"
            )
    return Found(tuple(sources), num_skipped)


class Boxes:
    """The people of each file; without a file of boxes, the same for all.

    Args:
        files: people by file name, or by frame for videos; None is no file of boxes.
        everywhere: people of files that `files` does not name.
        origin: where the boxes come from, for messages.
    """

    def __init__(
        self,
        files: Mapping[str, tuple[Person, ...] | dict[int, tuple[Person, ...]]] | None = None,
        everywhere: tuple[Person, ...] = NO_BOX,
        origin: str = "boxes",
    ) -> None:
        self._files = files or {}
        self._everywhere = everywhere
        self.origin = origin

    @classmethod
    def read(cls, path: Path) -> Boxes:
        """Read a file of boxes.

        Raises:
            DataError: not there, not JSON, or an entry that is no box; names it.
        """
        if not path.is_file():
            raise DataError(f"file of boxes {path} does not exist")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"file of boxes {path} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise DataError(
                f'file of boxes {path}: expected {{"photo.jpg": [box, ..], ..}}, '
                f"got a {type(content).__name__}"
            )
        files = {name: _file_entry(f"{path}: {name}", entry) for name, entry in content.items()}
        return cls(files, origin=str(path))

    def of(self, source: Source, frame: int | None = None) -> tuple[Person, ...]:
        """The people of a picture, or of one frame of a video.

        Raises:
            DataError: boxes by frame for a picture.
        """
        entry = self._files.get(self._key(source), self._everywhere)
        if not isinstance(entry, dict):
            return entry
        if frame is None:
            raise DataError(
                f"{self.origin}: {source.name} has boxes by frame, but is a picture; "
                f"expected a list of {_ENTRY}"
            )
        return entry.get(frame, ())

    def digest(self, source: Source) -> str:
        """What tells the people of a file from others, whatever the order of a video's frames."""
        entry = self._files.get(self._key(source), self._everywhere)
        people = sorted(entry.items()) if isinstance(entry, dict) else entry
        return hashlib.sha256(repr(people).encode()).hexdigest()[:16]

    def check_names(self, sources: Iterable[Source]) -> list[str]:
        """Names in the file of boxes that belong to none of the sources.

        Raises:
            DataError: none of the names does.
        """
        used = {self._key(source) for source in sources}
        unused = [name for name in self._files if name not in used]
        if unused and len(unused) == len(self._files):
            raise DataError(
                f"{self.origin} has boxes for {', '.join(unused[:5])}.., and none of these is "
                "among the files to predict; expected their paths below the folder, or names"
            )
        return unused

    def _key(self, source: Source) -> str:
        return source.name if source.name in self._files else source.path.name


def check_people(people: Sequence[Person], spec_kind: str, spec_name: str, where: str) -> None:
    """Refuse people that the network does not predict.

    Raises:
        DataError: a body where hands are predicted, or the other way round.
    """
    for number, person in enumerate(people):
        kind = person.kind or ("hand" if person.hand else spec_kind)
        if kind != spec_kind:
            raise DataError(
                f"{where}, box {number} is of a {kind}, but the checkpoint predicts "
                f"{'bodies' if spec_kind == 'body' else 'hands'} ({spec_name}): give a checkpoint "
                f"of {'bodies' if kind == 'body' else 'hands'}, or take the box out"
            )


def parse_rectangle(values: Any, where: str) -> tuple[float, float, float, float]:
    """Four numbers with a size.

    Raises:
        DataError: anything else; names the place.
    """
    numbers = isinstance(values, list | tuple) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
    if not numbers or len(values) != 4:
        raise DataError(f"{where}: expected [x, y, width, height] in pixels, got {values!r}")
    if not all(math.isfinite(value) for value in values):
        raise DataError(f"{where}: box must be finite, got {values!r}")
    if values[2] <= 0 or values[3] <= 0:
        raise DataError(
            f"{where}: box [x, y, width, height] = {values!r} has no size; width and height must "
            "be above 0 (are these corners x0, y0, x1, y1 instead?)"
        )
    x, y, width, height = map(float, values)
    return x, y, width, height


def _in_folder(folder: Path, recursive: bool) -> tuple[list[Source], int]:
    files = [p for p in (folder.rglob("*") if recursive else folder.iterdir()) if p.is_file()]
    taken = sorted(p for p in files if p.suffix.lower() in (*PICTURES, *VIDEOS))
    if not taken:
        deeper = "" if recursive else "; --recursive looks into its folders too"
        endings = ", ".join((*PICTURES, *VIDEOS))
        raise DataError(f"folder {folder} has no pictures or videos ({endings}){deeper}")
    return [Source(p, p.relative_to(folder).as_posix()) for p in taken], len(files) - len(taken)


def _file_entry(where: str, entry: Any) -> tuple[Person, ...] | dict[int, tuple[Person, ...]]:
    if not isinstance(entry, dict):
        return _people(where, entry)
    frames: dict[int, tuple[Person, ...]] = {}
    for frame, people in entry.items():
        if not frame.isdecimal():
            raise DataError(f"{where}: expected frame numbers from 0 as keys, got {frame!r}")
        frames[int(frame)] = _people(f"{where}, frame {frame}", people)
    return frames


def _people(where: str, entry: Any) -> tuple[Person, ...]:
    if not isinstance(entry, list):
        raise DataError(f"{where}: expected a list of {_ENTRY}, got {entry!r}")
    return tuple(_person(f"{where}, box {number}", item) for number, item in enumerate(entry))


def _person(where: str, entry: Any) -> Person:
    if not isinstance(entry, dict):
        return Person(parse_rectangle(entry, where))
    unknown = entry.keys() - {"box", "hand", "kind"}
    if unknown or "box" not in entry:
        raise DataError(
            f"{where}: expected the keys box and, optionally, hand and kind, got {sorted(entry)}"
        )
    for key, allowed in (("hand", _HANDS), ("kind", _KINDS)):
        if entry.get(key) not in (None, *allowed):
            raise DataError(f"{where}: {key} must be {' or '.join(allowed)}, got {entry[key]!r}")
    return Person(
        parse_rectangle(entry["box"], where),
        cast("Hand | None", entry.get("hand")),
        entry.get("kind"),
    )
