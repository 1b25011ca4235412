"""Annotation files in the form of COCO: images and annotations, joined by number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from metro_ray.data.raw.files import read_json
from metro_ray.errors import DataError


class CocoJson(NamedTuple):
    """Images and annotations by id, in the order of the file (of equal ids the last counts)."""

    path: Path
    images: dict[int, dict[str, Any]]
    annotations: dict[int, dict[str, Any]]

    def pairs(self) -> Iterator[tuple[int, dict[str, Any], dict[str, Any] | None]]:
        """Place in the file, annotation, and its image (None when the file lacks it)."""
        for number, annotation in enumerate(self.annotations.values()):
            yield number, annotation, self.images.get(annotation["image_id"])


def read_coco_json(path: Path, how: str) -> CocoJson:
    """Read a file.

    Raises:
        DataError: it is missing, cut, or not in the form of COCO.
    """
    content = read_json(path, how)
    try:
        images = {image["id"]: image for image in content["images"]}
        annotations = {annotation["id"]: annotation for annotation in content["annotations"]}
        for annotation in annotations.values():
            _ = annotation["image_id"]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not in the form of COCO (lists `images` and `annotations` with ids): "
            f"{type(error).__name__}: {error}"
        ) from error
    return CocoJson(path, images, annotations)


class Fields:
    """Reads fields of one annotation; a missing one is named with the file."""

    def __init__(self, record: Any, where: str) -> None:
        self._record = record
        self._where = where

    def __getitem__(self, name: str) -> Any:
        try:
            return self._record[name]
        except (KeyError, TypeError, IndexError) as error:
            raise DataError(f"{self._where} lacks the field {name!r}") from error

    def record(self, name: str) -> Fields:
        """A field that is a record itself."""
        return Fields(self[name], f"{self._where}, {name}")
