"""Rows and losses by source: those of a batch of that source alone, whatever rank or step had it."""

import json
import random

import numpy as np
import pytest
import torch

from metro_ray.losses import LossWeights, build_targets, compute_losses
from metro_ray.models import MeshPrediction
from metro_ray.training.context import LocalWorker
from metro_ray.training.interval import StepTiming
from metro_ray.training.loop import fit
from metro_ray.training.meter import RunMeter
from metro_ray.training.recorder import read_rows
from metro_ray.training.sources import (
    SourceSums,
    add_sources,
    source_values,
    sources_text,
    sum_by_source,
)
from metro_ray.training.step import StepLosses

WEIGHTS = LossWeights(joints=1000.0, vertices=100.0, levels=(0.2, 0.3, 0.5))


@pytest.fixture
def case(body, tiny_data):
    """Predictions for eight rows of three sources, some without one label or another."""
    [batch] = tiny_data(num_rows=8, batch_size=8).train_batches(0)
    batch = batch._replace(
        source=torch.tensor([0, 1, 0, 2, 1, 1, 0, 1]),
        has_mesh=torch.tensor([1, 1, 0, 0, 1, 0, 1, 1]).bool(),
        has_joints_3d=torch.tensor([1, 0, 1, 0, 1, 1, 0, 0]).bool(),
        valid=torch.tensor([1, 1, 1, 1, 1, 1, 1, 0]).bool(),
    )
    targets = build_targets(batch, body)
    shapes = [level.shape for level in targets.vertices]
    rng = torch.Generator().manual_seed(3)
    prediction = MeshPrediction(
        camera=torch.rand(8, 3, generator=rng),
        joints=torch.rand(8, body.spec.num_joints, 3, generator=rng),
        vertices=tuple(torch.rand(shape, generator=rng) for shape in shapes),
    )
    return prediction, body.joints_from_mesh(prediction.vertices[-1]), targets, batch


def summed(case, spec):
    prediction, joints, targets, batch = case
    table = sum_by_source(
        prediction, joints, targets, batch.source, weights=WEIGHTS, spec=spec, num_sources=4
    )
    return [SourceSums(*row) for row in table.tolist()]


def rows_of(parts, rows):
    """The chosen rows of a nested tuple of tensors; None stays."""
    if parts is None:
        return None
    if torch.is_tensor(parts):
        return parts[rows]
    made = [rows_of(part, rows) for part in parts]
    return type(parts)(*made) if hasattr(parts, "_fields") else tuple(made)


def test_a_source_has_the_loss_of_its_rows_alone(body, case):
    prediction, joints, targets, batch = case
    sums = summed(case, body.spec)
    assert [source.rows for source in sums] == [3, 3, 1, 0]
    for source in range(3):
        mine = (batch.source == source) & batch.valid
        alone = compute_losses(
            rows_of(prediction, mine), joints[mine], rows_of(targets, mine), WEIGHTS, body.spec
        )
        found = sums[source].losses(WEIGHTS)
        assert found["loss"] == pytest.approx(float(alone.total), rel=1e-5)
        for name in ("joints_3d", "keypoints_2d", "vertices"):
            if f"loss_{name}" in found:
                assert found[f"loss_{name}"] == pytest.approx(float(getattr(alone, name)), rel=1e-5)
            else:
                assert float(getattr(alone, name)) == 0
    assert "loss_joints_3d" not in sums[2].losses(WEIGHTS), "no row of it has the label"
    assert sums[3].losses(WEIGHTS) == {}


def test_parts_add_up_to_the_whole(body, case):
    prediction, joints, targets, batch = case
    whole, added = summed(case, body.spec), []
    for rows in (slice(0, 3), slice(3, 4), slice(4, 8)):
        part = (rows_of(prediction, rows), joints[rows], rows_of(targets, rows))
        added = add_sources(
            added, summed((*part, batch._replace(source=batch.source[rows])), body.spec)
        )
    assert np.allclose(np.array(added), np.array(whole), rtol=1e-5)


def test_ranks_are_merged_as_sums_and_counts():
    class TwoRanks(LocalWorker):
        world_size = 2

        def gather(self, value):
            return [value, other._interval]

    def counted(meter, rows, vertices):
        sources = (SourceSums(rows=rows, vertices=vertices, num_vertices=rows), SourceSums())
        losses = StepLosses(1.0, 0, 0, 0, {}, grad_norm=1.0, applied=True, sources=sources)
        meter.add(losses, StepTiming(1.0, 0.5, rows))

    other = RunMeter(LocalWorker("cpu"), ("a", "b"), WEIGHTS)
    meter = RunMeter(TwoRanks("cpu"), ("a", "b"), WEIGHTS)
    counted(other, 1, 9.0)
    counted(meter, 3, 3.0)
    values = meter.end_interval()
    assert values["train/source/a/rows"] == 4
    assert values["train/source/a/loss_vertices"] == 3.0, "12 over 4 rows, not 5 of two ranks"
    assert values["train/source/b/rows"] == 0
    assert "train/source/b/loss" not in values
    assert (
        sources_text(values, ("a", "b"), "train/source/") == "loss (rows) by source: a 300.0000 (4)"
    )


def test_one_source_and_very_many_are_not_told_apart():
    assert RunMeter(LocalWorker("cpu"), ("only",), WEIGHTS).source_names == ()
    many = [f"part-{number}" for number in range(100)]
    assert RunMeter(LocalWorker("cpu"), many, WEIGHTS).source_names == ()


def test_a_long_line_names_the_largest_sources():
    sums = [SourceSums(rows=float(number), keypoints_2d=1.0) for number in range(1, 10)]
    names = [f"s{number}" for number in range(1, 10)]
    random.Random(0).shuffle(names)
    values = source_values(sums, names, WEIGHTS)
    text = sources_text(values, names, "")
    assert text.startswith(f"loss (rows) by source: {names[8]} 11.1111 (9), {names[7]} ")
    assert text.endswith(", and 3 more")


@pytest.mark.parametrize("accumulate_steps", [1, 2])
def test_every_report_of_a_run_tells_the_sources_apart(
    body, tiny_data, make_config, accumulate_steps
):
    """The log, metrics.csv for intervals and epochs, TensorBoard and result.json."""

    def mixed(batch, epoch, index):
        return batch._replace(source=batch.row_id % 2)

    data = tiny_data(num_rows=6, spoil=mixed)
    data.source_names = ("even", "odd")
    config = make_config(optim__accumulate_steps=accumulate_steps, run__log_every=1000)
    run = fit(config, LocalWorker("cpu"), data, body=body)
    rows = read_rows(run.run_dir / "metrics.csv")
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert [row["epoch"] for row in epochs] == [0, 1]
    trained = [row for row in rows if row["kind"] == "train"]
    for row, prefix in (*((row, "epoch") for row in epochs), *((row, "train") for row in trained)):
        sources = [f"{prefix}/source/{name}" for name in ("even", "odd")]
        assert [row[f"{name}/rows"] for name in sources] == [3, 3]
        losses = [row[f"{name}/loss"] for name in sources]
        # All rows have all labels, so the two together are the step's loss where steps are alike.
        assert min(losses) > 0
        assert row[f"{prefix}/rows"] == 6
        vertices = [row[f"{name}/loss_vertices"] for name in sources]
        if accumulate_steps == 1:
            assert sum(vertices) / 2 == pytest.approx(row[f"{prefix}/loss_vertices"], rel=1e-5)
    log = (run.run_dir / "log.txt").read_text()
    assert "METRO INFO: train: 6 tiny rows" in log
    assert f"loss (rows) by source: even {trained[0]['train/source/even/loss']:.4f} (3)" in log
    result = json.loads((run.run_dir / "result.json").read_text())
    assert result["sources"]["odd"]["rows"] == 6
    both = sum(row["epoch/source/odd/loss"] for row in epochs)
    assert result["sources"]["odd"]["loss"] == pytest.approx(both / 2)
