"""Predictions of labelled data are measured, and one view is shown beside fused ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from clean_rows import MemoryRows, clean_row
from pages import Page

from metro_ray.bodies import load_body
from metro_ray.config.load import load_config
from metro_ray.evaluation.per_sample import read_per_sample
from metro_ray.evaluation.prediction_files import PredictedRows, PredictionWork
from metro_ray.inference.prediction_report import score_predictions

ROWS = 5


@pytest.fixture(scope="module")
def body():
    return load_body("anny_hand")


@pytest.fixture(scope="module")
def dataset(body):
    return MemoryRows(clean_row(body.spec, number) for number in range(ROWS))


def truth_of(dataset, body):
    pose, betas = (
        torch.tensor([row.label[name] for row in dataset.rows], dtype=torch.float32)
        for name in ("pose", "betas")
    )
    return body(pose, betas).vertices.numpy()


def predicted(folder, dataset, body, vertices, weights="abc"):
    request = {"rows": len(dataset), "data": "memory", "weights": weights}
    work = PredictionWork(folder, request | {"view": float(vertices[0, 0, 0])})
    for rows in (np.array([3, 4]), np.array([0, 1, 2])):  # blocks get done in any order
        keys = [dataset.key(row) for row in rows]
        work.add(PredictedRows(rows, keys, np.zeros((len(rows), 21, 3)), vertices[rows]))
    return work


def score(folder, dataset, body, vertices, *, multiscale=False, weights="abc"):
    work = predicted(folder, dataset, body, vertices, weights)
    config = load_config("hand", overrides={"model.mesh": "anny_hand"})
    config = replace(config, eval=replace(config.eval, multiscale=multiscale))
    paths = [folder / "ckpt7-sc10_rot0-pred.zip", folder / "ckpt7-multisc-pred.zip"]
    output, other = reversed(paths) if multiscale else paths
    return score_predictions(work, dataset, body, config, output, other)


def test_the_truth_moved_as_a_whole_has_no_mesh_error(dataset, body, tmp_path):
    scored = score(tmp_path, dataset, body, truth_of(dataset, body) + np.float32(0.3))
    means, counts = scored.result.figures.means, scored.result.figures.counts
    assert means["mpve_mm"] == pytest.approx(0.0, abs=1e-3)
    assert means["mpjpe_mm"] > 1  # the labelled joints are random points
    assert counts["rows"] == counts["mesh_rows"] == ROWS
    sample = read_per_sample(scored.results_file)
    assert scored.results_file.name == "ckpt7-sc10_rot0-pred.parquet"
    assert sample.table.keys == tuple(row.key for row in dataset.rows)
    page = Page(scored.page.read_text(encoding="utf-8"))
    page.require_self_contained()
    assert "Test-time augmentation" not in page.text
    assert f"MPJPE {means['mpjpe_mm']:.2f} mm" in page.text


def test_one_view_stands_beside_fused_ones_of_the_same_network(dataset, body, tmp_path):
    truth = truth_of(dataset, body)
    noise = np.random.default_rng(0).normal(0, 0.01, truth.shape).astype(np.float32)
    plain = score(tmp_path, dataset, body, truth + noise)
    fused = score(tmp_path, dataset, body, truth + 0.5 * noise, multiscale=True)
    one, two = (scored.result.figures.means["mpve_mm"] for scored in (plain, fused))
    assert two == pytest.approx(0.5 * one, rel=0.05)
    page = Page(fused.page.read_text(encoding="utf-8"))
    assert f"MPVE {one:.2f} {two:.2f} {two - one:+.2f}" in page.text
    assert "ckpt7-sc10_rot0-pred.parquet" in page.text
    other = score(tmp_path, dataset, body, truth + noise, multiscale=True, weights="xyz")
    assert "Test-time augmentation" not in other.page.read_text(encoding="utf-8")


def test_without_labels_there_is_no_score(body, tmp_path):
    rows = [clean_row(body.spec, number, has_smpl=0, has_3d_joints=0) for number in range(ROWS)]
    bare = MemoryRows(rows)
    assert score(tmp_path, bare, body, truth_of(bare, body)) is None
    assert not list(tmp_path.glob("*.html"))
