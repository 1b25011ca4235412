import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toys import TOY_HAND, ToyBody, take, toy_batch

from metro_ray.data.plan import EpochPlan, decode_entry
from metro_ray.errors import DataError, TrainingError
from metro_ray.evaluation import evaluate, evaluate_baseline, mean_mesh, metro_line
from metro_ray.evaluation.evaluate import measure, root_relative
from metro_ray.models import MeshPrediction

ROWS = 13


class OffsetNetwork(nn.Module):
    """Predicts the truth plus an error of its own for each row, whose number the image carries."""

    def __init__(self, body, batch, noise):
        super().__init__()
        self.dropout = nn.Dropout(0.9)
        self.truth = body(batch.pose, batch.betas).vertices
        self.noise = noise

    def forward(self, images):
        rows = ((images[:, 0, 0, 0] * 0.229 + 0.485) * 255).round().long()
        vertices = self.truth[rows] + self.dropout(self.noise[rows])
        return MeshPrediction(torch.ones(len(rows), 3), vertices[:, :14], (vertices,))


def _case(noise=0.05, **changes):
    body = ToyBody()
    batch = toy_batch(body, ROWS, **changes)
    image = torch.arange(ROWS, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    batch = batch._replace(image=image.contiguous())
    draw = torch.Generator().manual_seed(1)
    drift = noise * (torch.rand(ROWS, 40, 3, generator=draw) - 0.5)
    model = OffsetNetwork(body, batch, drift)
    truth = model.truth
    joints = batch.joints_3d.clone()
    joints[:, list(body.spec.label_to_joints), :3] = body.joints_from_mesh(truth) - truth[:, :1]
    return body, batch._replace(joints_3d=joints), model


def _run(body, model, batches, **options):
    return evaluate(model, body, batches, "cpu", **options)


def test_a_perfect_model_has_no_error():
    body, batch, model = _case(noise=0.0)
    metrics = _run(body, model, [batch]).metrics
    for name in ("mpjpe", "pa_mpjpe", "mpve", "pa_mpve"):
        assert metrics[f"val/{name}_mm"] == pytest.approx(0.0, abs=1e-3)
    assert metrics["val/num_rows"] == metrics["val/num_mesh_rows"] == ROWS
    assert metrics["val/pck_150mm"] == metrics["val/pa_pck_150mm"] == 1.0


def test_a_perfect_hand_has_no_mesh_error_although_its_targets_use_the_layers_wrist():
    hand = ToyBody(TOY_HAND)
    batch = toy_batch(hand, 3)
    truth = hand(batch.pose, batch.betas).vertices

    class Perfect(nn.Module):
        def forward(self, images):
            return MeshPrediction(torch.ones(3, 3), truth[:, :21], (truth,))

    metrics = _run(hand, Perfect(), [batch]).metrics
    assert metrics["val/mpve_mm"] == pytest.approx(0.0, abs=1e-3)
    assert metrics["val/mpjpe_mm"] == pytest.approx(0.0, abs=1e-3)


def _on_ranks(body, model, shares, **options):
    """Evaluate as each rank of several, one after the other; what each of them returns."""
    mine = []
    for batches in shares:
        _run(body, model, batches, gather=lambda rows: mine.append(rows) or [rows])
    return [_run(body, model, batches, gather=lambda _: mine, **options) for batches in shares]


def _shares(batch, batch_size, world_size):
    for rank in range(world_size):
        rows = list(range(rank, ROWS, world_size))
        parts = [rows[k : k + batch_size] for k in range(0, len(rows), batch_size)]
        yield [take(batch, part) for part in parts] or [take(batch, [])]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, ROWS), st.integers(1, 5))
def test_metrics_do_not_depend_on_batches_and_ranks(batch_size, world_size):
    flags = torch.arange(ROWS)
    body, batch, model = _case(
        has_mesh=flags % 3 != 0, has_joints_3d=flags % 4 != 1, valid=flags != 7
    )
    whole = _run(body, model, [batch])
    for split in _on_ranks(body, model, list(_shares(batch, batch_size, world_size))):
        assert split.metrics == pytest.approx(whole.metrics, abs=1e-9, nan_ok=True)
        assert split.table.keys == whole.table.keys
        np.testing.assert_allclose(split.figures.pck, whole.figures.pck, atol=1e-12)


class Ranks:
    """A gather among threads, as processes have one: each gives its own and gets all, by rank."""

    def __init__(self, world_size):
        self.tables = [None] * world_size
        self.barrier = threading.Barrier(world_size, timeout=60)

    def gather_of(self, rank):
        def gather(own):
            self.tables[rank] = own
            self.barrier.wait()
            return list(self.tables)

        return gather


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_1003_rows_count_1003_on_any_number_of_ranks(world_size):
    """One row more than all ranks have in whole batches: METRO's sampler would pad, we fill."""
    rows, body = 1003, ToyBody()
    batch = toy_batch(body, rows, has_mesh=torch.arange(rows) % 5 != 0)
    truth = body(batch.pose, batch.betas).vertices
    size = torch.linspace(0.001, 0.2, rows)[:, None, None]  # what is counted twice shows
    wrong = truth + size * torch.rand(rows, 40, 3, generator=torch.Generator().manual_seed(2))

    def predict(part):
        return root_relative(wrong[part.row_id], body)

    def share(plan, rank):
        for entries in plan.rank_batches(rank):
            ids = [decode_entry(entry, rows) for entry in entries.tolist()]
            part = take(batch, [entry.row_id for entry in ids])
            is_filler = torch.tensor([entry.is_filler for entry in ids])
            yield part._replace(valid=part.valid & ~is_filler)

    def run(rank, ranks, plan):
        return measure(
            predict, body, share(plan, rank), "cpu", ranks.gather_of(rank), split="val"
        ).metrics

    def on(size):
        plan = EpochPlan(num_rows=rows, batch_size=1002 // size, world_size=size, shuffle=False)
        ranks = Ranks(size)
        with ThreadPoolExecutor(size) as pool:
            return list(pool.map(lambda rank: run(rank, ranks, plan), range(size)))

    whole = measure(predict, body, [batch], "cpu", split="val").metrics
    assert whole["val/num_rows"] == rows
    for metrics in on(world_size):
        assert metrics == pytest.approx(whole, abs=1e-9, nan_ok=True)
        assert metrics["val/num_rows"] == metrics["val/num_joint_rows"] == rows


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_accelerations_cross_the_borders_of_ranks(world_size):
    """13 frames dealt out row by row: every triple spans ranks, and 13 divides by neither 2 nor 3."""
    betas = torch.full((ROWS, 2), 0.25)
    keys = tuple(f"walk/image_{frame:05d}.jpg" for frame in range(ROWS))
    body, batch, model = _case(betas=betas, keys=keys)
    whole = _run(body, model, [batch])
    assert whole.metrics["val/num_accel_frames"] == ROWS - 2
    truth = batch.joints_3d[:, list(body.spec.label_to_joints), :3].double()
    predicted = body.joints_from_mesh(model.truth + model.noise).double()
    hips = list(body.spec.center_joints)
    points = [p - p[:, hips].mean(dim=1, keepdim=True) for p in (predicted, truth)]
    second = [p[:-2] - 2 * p[1:-1] + p[2:] for p in points]
    expected = 1000 * (second[0] - second[1]).norm(dim=-1).mean().item()
    assert whole.metrics["val/accel_mm"] == pytest.approx(expected, rel=1e-5)
    for split in _on_ranks(body, model, list(_shares(batch, 2, world_size))):
        assert split.metrics == pytest.approx(whole.metrics, abs=1e-9)


def test_a_row_that_reaches_two_ranks_is_an_error_that_names_it():
    body, batch, model = _case()
    with pytest.raises(TrainingError, match=r"row 4 \(row4\) was evaluated twice, and 1 more"):
        _run(body, model, [take(batch, range(6)), take(batch, range(4, ROWS))])


def test_a_rank_without_rows_takes_part():
    body, _, model = _case()
    calls = []
    result = _run(body, model, [], gather=lambda rows: calls.append(rows) or [rows])
    assert len(calls) == 1
    assert result.metrics["val/num_rows"] == 0.0


def test_joints_by_name_average_to_the_whole():
    body, batch, model = _case(has_joints_3d=torch.arange(ROWS) != 3)
    result = _run(body, model, [batch])
    joints = result.figures.joints
    assert [joint.name for joint in joints] == list(body.spec.joints.names)
    for name in ("mpjpe_mm", "pa_mpjpe_mm"):
        mean = np.mean([getattr(joint, name) for joint in joints])
        assert mean == pytest.approx(result.metrics[f"val/{name}"], rel=1e-5)


def test_pck_counts_joints_within_the_threshold():
    body, batch, model = _case(noise=0.5)
    result = _run(body, model, [batch])
    errors = 1000 * result.table.joint_errors
    assert 0 < result.metrics["val/pck_150mm"] < 1
    assert result.metrics["val/pck_150mm"] == np.mean(errors < 150)
    shares = [np.mean(errors < limit) for limit in range(0, 151, 5)]
    assert result.metrics["val/auc_150mm"] == pytest.approx(np.mean(shares), abs=1e-12)


def test_without_a_label_a_metric_is_not_a_number_and_metros_line_says_zero():
    body, batch, model = _case(has_mesh=torch.zeros(ROWS, dtype=torch.bool))
    metrics = _run(body, model, [batch]).metrics
    assert math.isnan(metrics["val/mpve_mm"])
    assert metrics["val/mpjpe_mm"] > 0
    assert metrics["val/num_mesh_rows"] == 0.0
    assert "mPVE:   0.00," in metro_line(3, metrics)


def test_metros_line():
    metrics = {"val/mpve_mm": 88.279, "val/mpjpe_mm": 77.1, "val/pa_mpjpe_mm": 47.904}
    line = metro_line(0, metrics)
    assert line == "Validation epoch: 0  mPVE:  88.28, mPJPE:  77.10, PAmPJPE:  47.90"


def test_the_model_is_measured_in_eval_mode_and_left_as_it_was():
    body, batch, model = _case()
    model.train()
    first = _run(body, model, [batch]).metrics
    assert model.training
    assert first == pytest.approx(_run(body, model, [batch]).metrics, nan_ok=True, abs=0)
    model.eval()
    _run(body, model, [batch])
    assert not model.training


def test_the_table_has_every_valid_row_with_its_key():
    body, batch, model = _case(valid=torch.arange(ROWS) != 2)
    halves = [take(batch, range(6)), take(batch, range(6, ROWS))]
    result = _run(body, model, halves)
    table = result.table
    assert table.row_id.tolist() == [0, 1, *range(3, ROWS)]
    assert table.keys == tuple(f"row{row}" for row in table.row_id)
    assert np.mean(table.mpve) * 1000 == pytest.approx(result.metrics["val/mpve_mm"], abs=1e-9)


def test_predictions_that_are_not_numbers_are_an_error_that_names_the_row():
    body, batch, model = _case()
    model.truth[4] = math.nan
    with pytest.raises(TrainingError, match="row4 and 0 more rows"):
        _run(body, model, [batch])


def test_the_baseline_is_the_mean_of_the_labelled_rows():
    has_mesh = torch.arange(ROWS) < 5
    body, batch, _ = _case(has_mesh=has_mesh)
    mean = mean_mesh([take(batch, range(4)), take(batch, range(4, ROWS))], body, "cpu")
    vertices = body(batch.pose[:5], batch.betas[:5]).vertices
    expected = (vertices - vertices[:, :1]).mean(dim=0)
    torch.testing.assert_close(mean.vertices, expected)
    torch.testing.assert_close(mean.joints, body.joints_from_mesh(expected[None])[0])
    assert (mean.num_mesh_rows, mean.num_joint_rows) == (5, ROWS)


def test_the_baseline_is_measured_like_a_model():
    body, batch, _ = _case()
    mean = mean_mesh([batch], body, "cpu")
    metrics = evaluate_baseline(mean, body, [batch], "cpu").metrics
    truth = body(batch.pose, batch.betas).vertices
    distance = (truth - truth[:, :1] - mean.vertices).norm(dim=-1).mean()
    assert metrics["baseline/mpve_mm"] == pytest.approx(1000 * distance.item(), rel=1e-5)
    assert 0 < metrics["baseline/pa_mpjpe_mm"] < metrics["baseline/mpjpe_mm"]


def test_the_baseline_of_a_set_without_meshes_uses_the_joints():
    body, batch, _ = _case(has_mesh=torch.zeros(ROWS, dtype=torch.bool))
    mean = mean_mesh([batch], body, "cpu")
    expected = batch.joints_3d[:, list(body.spec.label_to_joints), :3].mean(dim=0)
    torch.testing.assert_close(mean.joints, expected)


def test_a_sampled_baseline_stops_early():
    body, batch, _ = _case()

    def batches():
        yield take(batch, range(5))
        raise AssertionError("read more rows than it was asked for")

    assert mean_mesh(batches(), body, "cpu", max_rows=5).num_mesh_rows == 5


def test_a_set_without_3d_labels_has_no_baseline():
    none = torch.zeros(ROWS, dtype=torch.bool)
    body, batch, _ = _case(has_mesh=none, has_joints_3d=none)
    with pytest.raises(DataError, match="no row with a mesh or 3D joints"):
        mean_mesh([batch], body, "cpu")
