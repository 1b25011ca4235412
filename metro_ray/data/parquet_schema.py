"""The Parquet layout of a data set, version 1: columns, and how METRO's label fits into them.

A data set is a folder `NAME.parquet/` of `part-*.parquet` files and a `dataset.json`, which is
written last (a folder without it is unfinished); a single such part can be opened too. Any Parquet
reader can read the parts. `docs/parquet.md` lists the columns.

Every number of a record is in a typed column. What the columns alone would not give back (another
nesting, whole numbers, further fields) is noted in `extra`, and a record that fits no column (a
broken one) is kept as text in `label_json`, so nothing is lost and a broken row stays a broken row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metro_ray.data.labels import REQUIRED_FIELDS
from metro_ray.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
VERSION_KEY = b"metro_ray.version"

IMAGE = "image"
TEXTS = ("key", "body_model", "gender", "origin", "extra", "label_json")
"""Text columns; "" where there is nothing."""
INTS = ("image_num_bytes", "height", "width", "source")
FLAGS = {
    "has_keypoints_2d": "has_2d_joints",
    "has_joints_3d": "has_3d_joints",
    "has_mesh": "has_smpl",
}
"""Boolean columns and METRO's names of them."""
ARRAYS = {
    "center": "center",
    "scale": "scale",
    "keypoints_2d": "2d_joints",
    "joints_3d": "3d_joints",
    "pose": "pose",
    "betas": "betas",
}
"""float64 columns and METRO's names of them."""


_METRO_ORDER = (*REQUIRED_FIELDS, "has_smpl", "has_mesh", "body_model")


class LabelSizes(NamedTuple):
    """How many numbers the columns of a file hold."""

    joints: int
    pose: int
    betas: int

    def shape(self, column: str) -> tuple[int, ...]:
        """Shape of one row of an array column; () is a plain number."""
        return {
            "center": (2,),
            "scale": (),
            "keypoints_2d": (self.joints, 3),
            "joints_3d": (self.joints, 4),
            "pose": (self.pose,),
            "betas": (self.betas,),
        }[column]

    def count(self, column: str) -> int:
        """Numbers in one row of an array column."""
        return int(np.prod(self.shape(column)))


DEFAULT_SIZES = LabelSizes(joints=24, pose=72, betas=10)


def arrow_schema(sizes: LabelSizes) -> pa.Schema:
    """Small columns first and the image last; nothing may be null."""
    import pyarrow as pa

    def numbers(column: str) -> pa.DataType:
        if sizes.shape(column) == ():
            return pa.float64()
        item = pa.field("element", pa.float64(), nullable=False)
        return pa.list_(item, sizes.count(column))

    types = dict.fromkeys(TEXTS, pa.string()) | dict.fromkeys(INTS, pa.int32())
    types |= dict.fromkeys(FLAGS, pa.bool_()) | {name: numbers(name) for name in ARRAYS}
    types[IMAGE] = pa.binary()
    fields = [pa.field(name, kind, nullable=False) for name, kind in types.items()]
    return pa.schema(fields, metadata={VERSION_KEY: str(VERSION).encode()})


def sizes_of(schema: pa.Schema, where: str) -> LabelSizes:
    """Read the sizes from the schema of a file.

    Raises:
        DataError: not a file of this layout and version.
    """
    import pyarrow as pa

    version = (schema.metadata or {}).get(VERSION_KEY, b"").decode()
    if version != str(VERSION):
        found = f"version {version}" if version else "no metro_ray.version in its metadata"
        raise DataError(
            f"{where}: not a data set of version {VERSION} of this project's Parquet layout "
            f"({found}); write it with `metro-ray data convert`"
        )
    missing = [name for name in (*TEXTS, *INTS, *FLAGS, *ARRAYS, IMAGE) if name not in schema.names]
    if missing:
        raise DataError(f"{where}: columns {', '.join(missing)} are missing")

    def width(name: str) -> int:
        kind = schema.field(name).type
        if not isinstance(kind, pa.FixedSizeListType):
            raise DataError(f"{where}: column {name} must hold lists of one length, got {kind}")
        return kind.list_size

    return LabelSizes(width("joints_3d") // 4, width("pose"), width("betas"))


def record_sizes(record: Mapping[str, Any]) -> LabelSizes | None:
    """The sizes that a record asks for; None where it is broken."""
    arrays = {name: _numbers(record.get(metro)) for name, metro in ARRAYS.items()}
    joints = arrays["keypoints_2d"]
    if joints is None or joints.ndim < 2 or arrays["pose"] is None or arrays["betas"] is None:
        return None
    sizes = LabelSizes(joints.shape[-2], arrays["pose"].size, arrays["betas"].size)
    return sizes if encode_label(record, sizes)["label_json"] == "" else None


def encode_label(record: Mapping[str, Any], sizes: LabelSizes) -> dict[str, Any]:
    """A METRO label record as the values of its columns."""
    record = json.loads(json.dumps(dict(record), default=_plain))
    columns = _encode_fields(record, sizes)
    if columns is not None:
        extra = _what_differs(record, decode_label(columns, sizes))
        columns["extra"] = _text(extra) if extra else ""
        if list(decode_label(columns, sizes)) != list(record):
            columns["extra"] = _text({**extra, "order": list(record)})
        if _text(decode_label(columns, sizes)) == _text(record):
            return columns
    whole = {name: np.zeros(sizes.shape(name)) for name in ARRAYS}
    texts = {"body_model": "", "gender": "", "extra": "", "label_json": json.dumps(record)}
    return {**whole, **dict.fromkeys(FLAGS, False), **texts}


def _encode_fields(record: Mapping[str, Any], sizes: LabelSizes) -> dict[str, Any] | None:
    columns: dict[str, Any] = {"extra": "", "label_json": ""}
    for name, metro in ARRAYS.items():
        numbers, shape = _numbers(record.get(metro)), sizes.shape(name)
        if numbers is None or numbers.shape not in (shape, (1, *shape)):
            return None
        columns[name] = numbers.reshape(shape)
    for name, metro in FLAGS.items():
        value = (
            record.get("has_mesh", record.get(metro)) if name == "has_mesh" else record.get(metro)
        )
        if value not in (0, 1):
            return None
        columns[name] = value == 1
    for name in ("body_model", "gender"):
        value = record.get(name, "")
        columns[name] = value if isinstance(value, str) else ""
    return columns


def decode_label(columns: Mapping[str, Any], sizes: LabelSizes) -> dict[str, Any]:
    """The label record that `encode_label` was given."""
    if columns["label_json"]:
        return json.loads(columns["label_json"])
    record: dict[str, Any] = {}
    for name, metro in ARRAYS.items():
        record[metro] = np.asarray(columns[name]).reshape(sizes.shape(name)).tolist()
    for name, metro in FLAGS.items():
        record[metro] = int(columns[name])
    for name in ("body_model", "gender"):
        if columns[name]:
            record[name] = columns[name]
    extra = json.loads(columns["extra"]) if columns["extra"] else {}
    for name in extra.get("whole", ()):
        record[name] = np.asarray(record[name]).astype(np.int64).tolist()
    for name in extra.get("nested", ()):
        record[name] = [record[name]]
    record |= extra.get("fields", {})
    return {name: record[name] for name in extra.get("order", _in_metros_order(record))}


def _what_differs(record: Mapping[str, Any], canonical: Mapping[str, Any]) -> dict[str, Any]:
    """What turns the values of `canonical` into those of `record`."""
    extra: dict[str, Any] = {
        "whole": [],
        "nested": [],
        "fields": {name: value for name, value in record.items() if name not in canonical},
    }
    for name, value in canonical.items():
        if name not in record or _text(record[name]) == _text(value):
            continue
        array, theirs = np.asarray(value), np.asarray(record[name])
        nested = theirs.shape == (1, *array.shape)
        whole = array.dtype == np.float64 and theirs.dtype.kind == "i"
        rebuilt = array.astype(np.int64).tolist() if whole else value
        if _text([rebuilt] if nested else rebuilt) != _text(record[name]):
            extra["fields"][name] = record[name]
            continue
        extra["whole"] += [name] * whole
        extra["nested"] += [name] * nested
    return {name: value for name, value in extra.items() if value}


def _in_metros_order(record: Mapping[str, Any]) -> list[str]:
    """The fields of a record as METRO's converters write them, further ones behind."""
    return [name for name in _METRO_ORDER if name in record] + [
        name for name in record if name not in _METRO_ORDER
    ]


def _numbers(value: Any) -> np.ndarray | None:
    """A value as float64, or None where it is not an array of numbers."""
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array.astype(np.float64) if array.dtype.kind in "if" else None


def _text(value: Any) -> str:
    """JSON in which whole and other numbers, true and 1 differ."""
    return json.dumps(value, separators=(",", ":"))


def _plain(value: object) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written")
