"""FreiHAND's official scores, figure for figure, for any number of samples and vertices.

Definitions are those of the data set's own `eval.py` (reference DATA-QUIRKS section 7), odd ones
included, because only then are the figures those of the leaderboard:

- a prediction is aligned by orthogonal Procrustes *without* the determinant rule, so a mirrored
  hand aligns perfectly, and both sets are divided by their norm + 1e-8, which leaves about 1e-9 m
  on a perfect prediction. Metrics elsewhere in this package use METRO's rule;
- PCK counts errors <= threshold, F-scores count nearest neighbours < threshold;
- vertices that are not those of the ground truth's mesh are moved with the joints' transform, which
  lacks the division by the prediction's norm: F-scores aligned so mean nothing (see `move_with`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

F_THRESHOLDS_M = (0.005, 0.015)
PCK_THRESHOLDS_M = np.linspace(0.0, 0.05, 100)
_NORM_DUST = 1e-8


class Hands(NamedTuple):
    """Joints and meshes of a data set's samples in its order, metres, in the camera's frame."""

    joints: Float[np.ndarray, "N 21 3"]
    vertices: Float[np.ndarray, "N V 3"]


class Alignment(NamedTuple):
    """What the official alignment finds: points -> (points - their mean) @ rotation.T, scaled.

    `rotation` may be a reflection.
    """

    rotation: Float[np.ndarray, "3 3"]
    scale: float
    """Sum of singular values: scale of the *normalised* source."""
    target_norm: float
    source_norm: float
    target_mean: Float[np.ndarray, " 3"]
    source_mean: Float[np.ndarray, " 3"]


class FScore(NamedTuple):
    """Harmonic mean of how much of each point set lies near the other; 0 if nothing does."""

    f: float
    truth_share: float
    """Share of true points with a predicted one near (the official script's "precision")."""
    predicted_share: float
    """Share of predicted points with a true one near (the official script's "recall")."""


class SampleErrors(NamedTuple):
    """Errors of one sample in metres; no vertex errors where the meshes do not correspond."""

    joints: Float[np.ndarray, " 21"]
    joints_aligned: Float[np.ndarray, " 21"]
    vertices: Float[np.ndarray, " V"] | None
    vertices_aligned: Float[np.ndarray, " V"] | None
    f_scores: tuple[FScore, ...]
    """One for each of `F_THRESHOLDS_M`."""
    f_scores_aligned: tuple[FScore, ...]


class PointScores(NamedTuple):
    """Scores of corresponding points: means over samples a point, then over points."""

    mean_m: float
    median_m: float
    auc: float
    """Area under the PCK curve divided by its width, 0 to 1."""
    pck: Float[np.ndarray, " 100"]
    """Share of errors up to each of `PCK_THRESHOLDS_M`."""


class FreihandScores(NamedTuple):
    """All scores of a prediction; no vertex scores where the meshes do not correspond."""

    num_samples: int
    joints: PointScores
    joints_aligned: PointScores
    vertices: PointScores | None
    vertices_aligned: PointScores | None
    f_scores: tuple[float, ...]
    """Mean over samples, for each of `F_THRESHOLDS_M`."""
    f_scores_aligned: tuple[float, ...]

    def figures(self) -> dict[str, float]:
        """The leaderboard's twelve figures by its own names, in its order.

        `*_mean3d` are centimetres, all others 0 to 1. Vertex scores that do not exist are -1, which
        makes the means -100, as the official script writes them.
        """
        points = {
            "xyz": self.joints,
            "xyz_al": self.joints_aligned,
            "mesh": self.vertices,
            "mesh_al": self.vertices_aligned,
        }
        figures: dict[str, float] = {}
        for name, scores in points.items():
            figures[f"{name}_mean3d"] = 100.0 * (scores.mean_m if scores else -1.0)
            figures[f"{name}_auc3d"] = scores.auc if scores else -1.0
        for threshold, plain, aligned in zip(
            F_THRESHOLDS_M, self.f_scores, self.f_scores_aligned, strict=True
        ):
            figures[f"f_score_{1000 * threshold:.0f}"] = plain
            figures[f"f_al_score_{1000 * threshold:.0f}"] = aligned
        return figures


def measure_samples(truth: Hands, prediction: Hands) -> Iterator[SampleErrors]:
    """Errors of one sample after the other; about 3 ms each with MANO's 778 vertices.

    Args:
        truth: as `freihand_files.read_truth` returns it.
        prediction: the same samples in the same order; see `freihand_files.require_match`.
    """
    is_same_mesh = prediction.vertices.shape[1] == truth.vertices.shape[1]
    samples = zip(*truth, *prediction, strict=True)
    for joints, vertices, predicted_joints, predicted_vertices in samples:
        alignment = fit_alignment(predicted_joints, joints)
        if is_same_mesh:
            own = fit_alignment(predicted_vertices, vertices)
            aligned_vertices = align(predicted_vertices, own)
        else:
            aligned_vertices = move_with(predicted_vertices, alignment)
        tree = KDTree(vertices)
        yield SampleErrors(
            joints=_distances(predicted_joints, joints),
            joints_aligned=_distances(align(predicted_joints, alignment), joints),
            vertices=_distances(predicted_vertices, vertices) if is_same_mesh else None,
            vertices_aligned=_distances(aligned_vertices, vertices) if is_same_mesh else None,
            f_scores=f_scores(tree, predicted_vertices),
            f_scores_aligned=f_scores(tree, aligned_vertices),
        )


def summarise(samples: Iterable[SampleErrors]) -> FreihandScores:
    """Scores of a data set from the errors of its samples, at least one."""
    errors = list(samples)
    vertices = [one.vertices for one in errors if one.vertices is not None]
    aligned = [one.vertices_aligned for one in errors if one.vertices_aligned is not None]
    return FreihandScores(
        num_samples=len(errors),
        joints=_point_scores(np.stack([one.joints for one in errors])),
        joints_aligned=_point_scores(np.stack([one.joints_aligned for one in errors])),
        vertices=_point_scores(np.stack(vertices)) if vertices else None,
        vertices_aligned=_point_scores(np.stack(aligned)) if aligned else None,
        f_scores=_mean_f(one.f_scores for one in errors),
        f_scores_aligned=_mean_f(one.f_scores_aligned for one in errors),
    )


def fit_alignment(source: Float[np.ndarray, "K 3"], target: Float[np.ndarray, "K 3"]) -> Alignment:
    """The official alignment of corresponding points: reflections allowed, 1e-8 on both norms."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source, target = source - source_mean, target - target_mean
    source_norm = float(np.linalg.norm(source)) + _NORM_DUST
    target_norm = float(np.linalg.norm(target)) + _NORM_DUST
    u, singular, vt = np.linalg.svd((target / target_norm).T @ (source / source_norm))
    return Alignment(
        u @ vt, float(singular.sum()), target_norm, source_norm, target_mean, source_mean
    )


def align(points: Float[np.ndarray, "K 3"], found: Alignment) -> Float[np.ndarray, "K 3"]:
    """The points for which the alignment was found, moved to their target."""
    normalised = (points - found.source_mean) / found.source_norm
    return (normalised @ found.rotation.T) * found.scale * found.target_norm + found.target_mean


def move_with(points: Float[np.ndarray, "K 3"], found: Alignment) -> Float[np.ndarray, "K 3"]:
    """Other points moved as the official script does it, which is not the transform found.

    They turn about their own mean, and the division by the source's norm is missing, so their size
    is wrong by that factor.
    """
    mean = points.mean(axis=0)
    turned = ((points - mean) @ found.rotation.T) * found.scale * found.target_norm
    return turned + (found.target_mean - found.source_mean) + mean


def f_scores(truth: KDTree, predicted: Float[np.ndarray, "K 3"]) -> tuple[FScore, ...]:
    """F-scores at `F_THRESHOLDS_M` of points, which need not correspond to the true ones.

    Args:
        truth: tree of the true points, at least one, metres.
        predicted: any number of points, metres.
    """
    if len(predicted) == 0:
        return (FScore(0.0, 0.0, 0.0),) * len(F_THRESHOLDS_M)
    # Farther than the largest threshold is as good as infinitely far, and much faster.
    limit = np.nextafter(max(F_THRESHOLDS_M), np.inf)
    to_predicted = KDTree(predicted).query(truth.data, distance_upper_bound=limit)[0]
    to_truth = truth.query(predicted, distance_upper_bound=limit)[0]
    scores = []
    for threshold in F_THRESHOLDS_M:
        truth_share = float(np.mean(to_predicted < threshold))
        predicted_share = float(np.mean(to_truth < threshold))
        total = truth_share + predicted_share
        f = 2.0 * truth_share * predicted_share / total if total > 0 else 0.0
        scores.append(FScore(f, truth_share, predicted_share))
    return tuple(scores)


def _distances(
    points: Float[np.ndarray, "K 3"], others: Float[np.ndarray, "K 3"]
) -> Float[np.ndarray, " K"]:
    return np.sqrt(np.square(points - others).sum(axis=1))


def _point_scores(errors: Float[np.ndarray, "N K"]) -> PointScores:
    shares = np.stack([(errors <= limit).mean(axis=0) for limit in PCK_THRESHOLDS_M])
    width = PCK_THRESHOLDS_M[-1] - PCK_THRESHOLDS_M[0]
    return PointScores(
        mean_m=float(errors.mean(axis=0).mean()),
        median_m=float(np.median(errors, axis=0).mean()),
        auc=float((np.trapezoid(shares, PCK_THRESHOLDS_M, axis=0) / width).mean()),
        pck=shares.mean(axis=1),
    )


def _mean_f(samples: Iterable[tuple[FScore, ...]]) -> tuple[float, ...]:
    columns = zip(*samples, strict=True)
    return tuple(math.fsum(score.f for score in column) / len(column) for column in columns)
