"""Look at the numbers of one label: box, 2D joints, 3D joints, whether they agree, mesh."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from metro_ray.bodies.spec import MeshSpec
from metro_ray.data.check_rules import Problem
from metro_ray.data.labels import Label
from metro_ray.errors import DataError
from metro_ray.geometry.boxes import crop_window
from metro_ray.geometry.weak_camera import fit_weak_camera

_PARTLY = 0.1
_OUTSIDE_PX = 1.0
"""Joints that rounding puts a pixel over the edge are not meant."""
_NORMALISED = 1.5
_EXTENT_M = {"body": (0.3, 3.5), "hand": (0.04, 0.45)}
"""Smallest and largest diagonal of the box around all 3D joints, metres."""
_MIN_FIT_JOINTS = 6
DISAGREE = 0.15
"""Rest of the weak-perspective fit over the spread of the 2D joints. True perspective of people and
hands from 2.2 times their size away leaves less than 0.06."""
_FULL_TURN, _DEGREES = 2 * np.pi + 1e-3, 4 * np.pi
_MAX_BETA = 5.0
_PHENOTYPE_SPARE = 0.05


class Numbers(NamedTuple):
    """What goes into the histograms."""

    box_side_px: float | None = None
    confidences: Float[np.ndarray, " L"] | None = None
    pose_deg: Float[np.ndarray, " P"] | None = None
    """Angle of each pose joint but the root, degrees."""


def inspect_numbers(
    label: Label, spec: MeshSpec, size: tuple[int, int] | None
) -> tuple[Numbers, list[Problem]]:
    """Check a label that training accepts.

    Args:
        label: as parsed for `spec`.
        spec: the body model of its pose and betas.
        size: height and width of its picture, pixels; None where that cannot be read.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers are found as such
        return _inspect(label, spec, size)


def _inspect(
    label: Label, spec: MeshSpec, size: tuple[int, int] | None
) -> tuple[Numbers, list[Problem]]:
    problems = _box(label, size)
    has_box = not any(problem.code == "box-wrong" for problem in problems)
    side = 200.0 * label.scale if has_box else None
    confidences = pose = None
    if label.has_keypoints_2d:
        problems += _keypoints(label, size, has_box)
        confidences = label.keypoints_2d[:, 2]
    if label.has_joints_3d:
        problems += _joints_3d(label, spec)
    if label.has_keypoints_2d and label.has_joints_3d:
        problems += _agreement(label, spec)
    if label.has_mesh:
        pose = np.degrees(np.linalg.norm(label.pose.reshape(-1, 3), axis=1))[1:]
        problems += _mesh(label, spec)
    if not (label.has_mesh or label.has_joints_3d or label.has_keypoints_2d):
        problems.append(Problem("unlabelled", "no mesh, no 3D joints, no 2D joints"))
    return Numbers(side, confidences, pose), problems


def _box(label: Label, size: tuple[int, int] | None) -> list[Problem]:
    try:
        window = crop_window(label.center, label.scale, 224)
    except DataError as error:
        return [Problem("box-wrong", str(error))]
    if size is None:
        return []
    across = min(window.right, size[1]) - max(window.left, 0)
    down = min(window.bottom, size[0]) - max(window.top, 0)
    inside = max(across, 0) * max(down, 0) / (window.width * window.height)
    where = (
        f"x {window.left} to {window.right}, y {window.top} to {window.bottom} "
        f"in {size[1]} x {size[0]}"
    )
    if inside <= 0:
        return [Problem("box-outside", where)]
    if inside < 0.5:
        return [Problem("box-mostly-outside", f"{inside:.0%} inside: {where}")]
    if inside < 1 - _PARTLY:
        return [Problem("box-partly-outside", f"{inside:.0%} inside: {where}")]
    return []


def _keypoints(label: Label, size: tuple[int, int] | None, has_box: bool) -> list[Problem]:
    problems = _confidence(label.keypoints_2d[:, 2], "2D")
    seen = label.keypoints_2d[:, 2] > 0
    points = label.keypoints_2d[seen, :2]
    if not len(points):
        return [*problems, Problem("joints-2d-unseen", f"{len(seen)} joints of confidence 0")]
    if np.abs(points).max() <= _NORMALISED:
        low, high = points.min(), points.max()
        return [*problems, Problem("joints-2d-normalised", f"from {low:.2f} to {high:.2f}")]
    if size is not None:
        outside = _outside(points, size)
        if outside.any():
            x, y = points[outside][0]
            detail = f"{outside.sum()} of {len(points)}, such as ({x:.1f}, {y:.1f})"
            picture = f"in {size[1]} x {size[0]}"
            problems.append(Problem("joints-2d-outside", f"{detail} {picture}"))
    half = 100.0 * label.scale
    in_box = (np.abs(points - np.array(label.center)) <= half).all(axis=1)
    if has_box and in_box.mean() < 0.5:
        detail = f"{in_box.sum()} of {len(points)} lie in the box"
        problems.append(Problem("box-misses-joints", detail))
    return problems


def _outside(points: Float[np.ndarray, "N 2"], size: tuple[int, int]) -> Bool[np.ndarray, " N"]:
    last = np.array([size[1] - 1, size[0] - 1])
    return np.any((points < -_OUTSIDE_PX) | (points > last + _OUTSIDE_PX), axis=1)


def _confidence(values: Float[np.ndarray, " N"], what: str) -> list[Problem]:
    if values.min() >= 0 and values.max() <= 1:
        return []
    return [Problem("confidence-range", f"{what}: from {values.min():g} to {values.max():g}")]


def _joints_3d(label: Label, spec: MeshSpec) -> list[Problem]:
    confidence = label.joints_3d[:, 3]
    problems = _confidence(confidence, "3D")
    points = label.joints_3d[confidence > 0, :3]
    if not len(points):
        detail = f"{len(confidence)} joints of confidence 0"
        return [*problems, Problem("joints-3d-unseen", detail)]
    if len(points) < len(confidence) / 2:
        return problems  # a few joints may lie close together
    extent = float(np.linalg.norm(np.ptp(points, axis=0)))
    smallest, largest = _EXTENT_M[spec.kind]
    if smallest <= extent <= largest:
        return problems
    code = "joints-3d-range"
    if smallest <= extent / 1000 <= largest:
        code = "joints-3d-millimetres"
    elif smallest <= extent / 100 <= largest:
        code = "joints-3d-centimetres"
    return [*problems, Problem(code, f"they span {extent:.4g}, expected {smallest} to {largest} m")]


def _agreement(label: Label, spec: MeshSpec) -> list[Problem]:
    """Whether a weak-perspective camera takes the 3D joints to the 2D joints."""
    seen = (label.keypoints_2d[:, 2] > 0) & (label.joints_3d[:, 3] > 0)
    if seen.sum() < _MIN_FIT_JOINTS:
        return []
    points, pixels = label.joints_3d[:, :3], label.keypoints_2d[:, :2]
    fit = fit_weak_camera(points[seen], pixels[seen])
    if fit.scale > 0 and fit.relative_error <= DISAGREE:
        return []
    detail = f"off by {fit.error_px:.0f} px, {fit.relative_error:.0%} of the pose's size"
    for guess, changed in _guesses(points, spec):
        other = fit_weak_camera(changed[seen], pixels[seen])
        if other.scale > 0 and other.relative_error <= DISAGREE / 2:
            return [Problem("joints-disagree", f"{detail}; they fit when {guess}")]
    return [Problem("joints-disagree", detail)]


def _guesses(
    points: Float[np.ndarray, "L 3"], spec: MeshSpec
) -> list[tuple[str, Float[np.ndarray, "L 3"]]]:
    """Usual mistakes, undone."""
    swapped = points.copy()
    for left, right in spec.label_flip_pairs:
        swapped[[left, right]] = points[[right, left]]
    return [
        ("y points down instead of up", points * (1, -1, 1)),
        ("x is mirrored", points * (-1, 1, 1)),
        ("x and y are both turned over", points * (-1, -1, 1)),
        ("left and right joints change places", swapped),
    ]


def _mesh(label: Label, spec: MeshSpec) -> list[Problem]:
    problems = []
    angles = np.linalg.norm(label.pose.reshape(-1, 3), axis=1)
    joint, largest = int(angles.argmax()), float(angles.max())
    detail = f"joint {joint} of the pose turns by {largest:.3g} rad"
    if largest > _DEGREES:
        problems.append(Problem("pose-degrees", detail))
    elif largest > _FULL_TURN:
        problems.append(Problem("pose-range", detail))
    if np.ptp(label.pose) == 0:
        problems.append(Problem("mesh-placeholder", f"every number is {label.pose[0]:g}"))
    low, high = float(label.betas.min()), float(label.betas.max())
    allowed = (-_MAX_BETA, _MAX_BETA)
    if spec.name.startswith("anny"):  # phenotypes, from 0 to 1
        allowed = (-_PHENOTYPE_SPARE, 1 + _PHENOTYPE_SPARE)
    if low < allowed[0] or high > allowed[1]:
        expected = f"expected {allowed[0]:g} to {allowed[1]:g}"
        problems.append(Problem("betas-range", f"from {low:.3g} to {high:.3g}, {expected}"))
    return problems
