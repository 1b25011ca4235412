"""Steps that are not finite, over a whole run."""

import pytest
import torch

from metro_ray.errors import TrainingError
from metro_ray.training.checkpoint_meta import read_meta
from metro_ray.training.context import LocalWorker
from metro_ray.training.guard import NonFiniteGuard, _Report
from metro_ray.training.logs import run_log
from metro_ray.training.loop import fit
from metro_ray.training.recorder import read_rows
from metro_ray.training.step import StepLosses


def spoiled(*numbers, column="keypoints_2d"):
    """A spoil function that breaks the first row of these batches of every epoch."""

    def spoil(batch, epoch, index):
        if index in numbers:
            getattr(batch, column)[0] = float("nan")
        return batch._replace(keys=tuple(f"image{int(row)}.jpg" for row in batch.row_id))

    return spoil


def test_a_run_goes_on_and_counts_and_names_what_it_left_out(body, tiny_data, make_config, capsys):
    config = make_config(optim__epochs=1, optim__ema_decay=0.9)
    data = tiny_data(num_rows=8, spoil=spoiled(1, 2))
    result = fit(config, LocalWorker("cpu"), data, body=body)
    lines = [line for line in capsys.readouterr().out.splitlines() if "is not finite" in line]
    assert len(lines) == 2
    assert lines[0].startswith("METRO WARNING: step 2 is not finite: total nan")
    assert "its rows: image" in lines[0]
    assert lines[0].count(".jpg") == 1, "only the row with the broken label"
    assert "2 in a row, 2 in all" in lines[1]
    meta = read_meta(result.checkpoint)
    assert meta.skipped_steps == (2, 0)
    assert meta.step == 4, "the schedule goes on"
    assert meta.averaged == 2, "the average takes steps that counted"
    rows = [row for row in read_rows(result.run_dir / "metrics.csv") if row["kind"] == "train"]
    assert [row["train/skipped_steps"] for row in rows] == [0, 1, 1, 0]
    assert ["train/loss" in row for row in rows] == [True, False, False, True]
    assert all(row["train/grad_norm"] > 0 for row in rows if "train/loss" in row)


def test_too_many_in_a_row_stop_the_run(body, tiny_data, make_config):
    config = make_config(optim__epochs=1, optim__max_nonfinite_steps=2)
    scattered = tiny_data(num_rows=12, spoil=spoiled(0, 1, 3, 4))
    fit(config, LocalWorker("cpu"), scattered, body=body)
    in_a_row = tiny_data(num_rows=12, spoil=spoiled(1, 2, 3))
    expected = r"step 4 is not finite.*image\d\.jpg\. That makes 3 in a row.*allows 2.*labels"
    with pytest.raises(TrainingError, match=expected):
        fit(config, LocalWorker("cpu"), in_a_row, body=body)


def test_one_broken_batch_spoils_its_window_only(body, tiny_data, make_config):
    config = make_config(optim__epochs=1, optim__accumulate_steps=2)
    data = tiny_data(num_rows=10, spoil=spoiled(1))
    meta = read_meta(fit(config, LocalWorker("cpu"), data, body=body).checkpoint)
    assert (meta.step, meta.skipped_steps) == (3, (1, 0)), "five batches are three steps"


class Ranks(LocalWorker):
    """What two other ranks report, beside one's own."""

    def __init__(self, others):
        super().__init__("cpu")
        self.others = others

    def gather(self, value):
        return [value, *self.others]


@pytest.mark.parametrize("own_label", [False, True])
def test_rows_of_the_rank_whose_loss_broke_are_named(tiny_data, capsys, tmp_path, own_label):
    fine = StepLosses(1.0, 0, 0, 0, {"vertices_6": 0.0}, grad_norm=float("nan"), applied=False)
    broken = fine._replace(total=float("inf"), terms={"vertices_6": float("inf")})
    [batch] = tiny_data(num_rows=2, num_val=2).train_batches(0)
    batch = batch._replace(keys=("mine0", "mine1"))
    if own_label:
        batch.pose[1] = torch.nan
    others = [_Report(broken, ["theirs0", "theirs1"], []), _Report(fine, ["third"], [])]
    guard = NonFiniteGuard(Ranks(others), limit=5)
    with run_log(tmp_path, rank=0):
        guard.check(fine, [batch], step=3, lr=1e-3)
    line = capsys.readouterr().out
    assert "total inf (vertices_6 inf" in line
    assert ("its rows: mine1. " if own_label else "its rows: theirs0, theirs1. ") in line
