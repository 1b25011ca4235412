"""Look at the form of one label record: fields, shapes, flags, numbers, body model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from metro_ray.bodies.spec import SPECS, MeshSpec
from metro_ray.data.check_rules import Problem
from metro_ray.data.labels import DEFAULT_BODY_MODEL, REQUIRED_FIELDS, Label, parse_label
from metro_ray.errors import DataError

_FLAG_OF = {
    "2d_joints": ("has_2d_joints",),
    "3d_joints": ("has_3d_joints",),
    "pose": ("has_mesh", "has_smpl"),
    "betas": ("has_mesh", "has_smpl"),
}
KNOWN_FIELDS = (*REQUIRED_FIELDS, "has_smpl", "has_mesh", "body_model", "gender")
"""Fields that mean something; `gender` is read by nobody but belongs to METRO's labels."""


class LabelFacts(NamedTuple):
    """What is known of a label record."""

    label: Label | None
    """As training reads it; None where it refuses the record."""
    spec: MeshSpec
    """As what it was read: the body model that it names, else its kind's default."""
    body_model: str
    """What it names."""
    num_joints: int | None
    problems: list[Problem]


def _default_spec(kind: str) -> MeshSpec:
    """The body model that labels of a kind belong to when they name none."""
    return SPECS[DEFAULT_BODY_MODEL[kind]]


def inspect_label(record: Mapping[str, Any], kind: str) -> LabelFacts:
    """Check a record as training would, and say in which field a refusal lies.

    Args:
        record: METRO's label record.
        kind: `body` or `hand`.
    """
    body_model = str(record.get("body_model", DEFAULT_BODY_MODEL[kind]))
    spec, problems = _default_spec(kind), []
    if body_model in SPECS and SPECS[body_model].kind == kind:
        spec = SPECS[body_model]
    else:
        problems.append(Problem("body-unknown", f"body_model {body_model!r}"))
    unknown = [str(name) for name in record if name not in KNOWN_FIELDS]
    if unknown:
        problems.append(Problem("field-unknown", ", ".join(sorted(unknown))))
    num_joints = count_joints(record)
    try:
        label = parse_label(record, spec)
    except (DataError, ValueError, TypeError, ArithmeticError) as error:
        problems.append(_refusal(record, spec, num_joints, str(error)))
        return LabelFacts(None, spec, body_model, num_joints, problems)
    return LabelFacts(label, spec, body_model, num_joints, problems)


def count_joints(record: Mapping[str, Any]) -> int | None:
    """Joints of a record by its 2D joints; None where they have no such shape."""
    try:
        shape = np.shape(record.get("2d_joints", ()))
    except ValueError:
        return None
    return int(shape[-2]) if len(shape) >= 2 else None


def _refusal(
    record: Mapping[str, Any], spec: MeshSpec, num_joints: int | None, reason: str
) -> Problem:
    """Which kind of finding it is that training refuses the record."""
    if reason.startswith("label lacks"):
        return Problem("field-missing", reason)
    if num_joints is not None and num_joints != len(spec.label_joints):
        return Problem("joint-count", f"{num_joints} joints, a {spec.kind} has {_expected(spec)}")
    if any(_in_use(record, name) and not _finite(record.get(name)) for name in _FLAG_OF):
        return Problem("not-finite", reason)
    if not all(_finite(record.get(name)) for name in ("center", "scale")):
        return Problem("box-wrong", reason)
    return Problem("label-wrong", reason)


def _expected(spec: MeshSpec) -> str:
    return f"{len(spec.label_joints)} ({spec.label_joints.name})"


def _in_use(record: Mapping[str, Any], name: str) -> bool:
    flags = [record[flag] for flag in _FLAG_OF[name] if flag in record]
    return bool(flags) and flags[0] == 1


def _finite(value: object) -> bool:
    """False only for numbers that are NaN or infinite; what is no number has another fault."""
    if isinstance(value, float):
        return math.isfinite(value)
    try:
        return bool(np.isfinite(np.asarray(value, np.float64)).all())
    except (ValueError, TypeError, OverflowError):
        return True
