import csv
import math

import pytest

from metro_ray.training.interval import Interval, StepTiming, add_ranks, merged_values
from metro_ray.training.meter import WaitHint
from metro_ray.training.progress import progress_line
from metro_ray.training.recorder import Recorder, read_rows
from metro_ray.training.step import StepLosses


def test_rows_are_on_disk_at_once_and_new_names_widen_the_table(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.record("train", epoch=0, step=1, values={"train/loss": 2.0})
        recorder.record(
            "val", epoch=1, step=1, values={"val/mpve_mm": math.nan, "val/mpjpe_mm": 9.5}
        )
        recorder.record("train", epoch=1, step=2, values={"train/loss": 1.5})
        with (tmp_path / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["train", "val", "train"]
    assert rows[1]["val/mpjpe_mm"] == "9.5"
    assert "val/mpve_mm" not in rows[1], "a number that never existed has no column"
    assert rows[2]["train/loss"] == "1.5"
    assert rows[2]["val/mpjpe_mm"] == ""


def test_continuing_drops_rows_behind_the_checkpoint(tmp_path):
    with Recorder(tmp_path) as recorder:
        for step in (1, 2, 3):
            recorder.record("train", epoch=0, step=step, values={"train/loss": float(step)})
    with Recorder(tmp_path, from_step=2) as recorder:
        recorder.record("train", epoch=0, step=3, values={"train/loss": 30.0})
    assert [row["train/loss"] for row in read_rows(tmp_path / "metrics.csv")] == [1.0, 2.0, 30.0]


def test_tensorboard_files_hold_the_numbers(tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    with Recorder(tmp_path) as recorder:
        recorder.record("train", epoch=0, step=5, values={"train/loss": 2.5})
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(5, 2.5)]


def test_absent_tensorboard_is_said_and_does_not_stop_the_run(tmp_path, monkeypatch, caplog):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with Recorder(tmp_path) as recorder:
        recorder.record("train", epoch=0, step=1, values={"train/loss": 1.0})
    assert "tensorboard is not installed; pip install" in caplog.text
    assert len(read_rows(tmp_path / "metrics.csv")) == 1


def test_other_ranks_write_nothing(tmp_path):
    with Recorder(tmp_path / "run", enabled=False) as recorder:
        recorder.record("train", epoch=0, step=1, values={"train/loss": 1.0})
    assert not (tmp_path / "run").exists()


def interval(*steps, sources=()):
    """Sums of steps, each (loss, seconds, seconds waited, images)."""
    sums = Interval()
    for loss, seconds, waited, images in steps:
        losses = StepLosses(
            loss, 0.1, 0.2, 0.3, {}, grad_norm=loss / 10, applied=True, sources=sources
        )
        sums.add(losses, StepTiming(seconds, waited, images))
    return sums


def train_values(*ranks):
    return {f"train/{name}": value for name, value in merged_values(ranks).items()}


def test_progress_line_is_metros_with_ours_behind():
    values = train_values(interval((10.0, 2.0, 0.5, 3), (20.0, 2.0, 0.5, 1)))
    values |= {"train/lr": 1e-4, "train/max_memory_mib": 812.4}
    line = progress_line(values, epoch=1, step=500, seconds_left=3661.5)
    assert line == (
        "eta: 1:01:01 epoch: 1 iter: 500 max mem : 812  loss: 12.5000, 2d joint loss: 0.2000, "
        "3d joint loss: 0.1000, vertex loss: 0.3000, compute: 2.0000, data: 0.5000, lr: 0.000100, "
        "images/s: 1.0, data wait: 25.0 %"
    )


def test_a_rank_that_waits_longer_than_the_others_shows():
    values = train_values(interval((1.0, 4.0, 0.0, 8)), interval((2.0, 4.0, 2.0, 4)))
    assert values["train/loss"] == pytest.approx((8 * 1.0 + 4 * 2.0) / 12)
    assert values["train/images_per_second"] == 3.0
    assert values["train/data_wait_seconds"] == 1.0
    assert values["train/data_wait_seconds_max"] == 2.0
    assert values["train/data_wait_share"] == 0.25
    assert values["train/data_wait_share_max"] == 0.5
    assert values["train/data_wait_max_rank"] == 1.0
    line = progress_line({**values, "train/lr": 1e-4}, epoch=0, step=1, seconds_left=0)
    assert line.endswith("data wait: 25.0 % (rank 1: 50.0 %)")


def test_a_part_of_a_run_on_more_ranks_adds_up_with_the_rest():
    before = [interval((1.0, 4.0, 1.0, 8)), interval((3.0, 4.0, 3.0, 8))]
    after = [interval((5.0, 2.0, 0.0, 4))]
    parts = add_ranks([Interval.from_dict(rank.to_dict()) for rank in before], after)
    values = merged_values(parts)
    assert values["rows"] == 20
    assert values["loss"] == pytest.approx((8 * 1.0 + 8 * 3.0 + 4 * 5.0) / 20)
    assert values["images_per_second"] == pytest.approx(20 / 6.0)
    assert values["data_wait_share"] == pytest.approx(4.0 / 10.0)
    assert values["data_wait_max_rank"] == 1.0


def test_the_hint_comes_once_after_a_wait_that_stays():
    late, fine = (
        train_values(interval((1.0, 1.0, 0.3, 1))),
        train_values(interval((1.0, 1.0, 0, 1))),
    )
    hint = WaitHint()
    assert [hint.check(values) for values in (late, late, fine, late, late)] == [None] * 5
    said = hint.check(late)
    assert "30% of the time" in said
    assert "data.loader_workers" in said
    assert "scaling.cpus_per_worker" in said
    assert [hint.check(late) for _ in range(5)] == [None] * 5


def test_the_hint_names_a_single_slow_rank():
    values = train_values(*[interval((1.0, 1.0, 0.01, 1))] * 3, interval((1.0, 1.0, 0.5, 1)))
    hint = WaitHint()
    assert "rank 3 waits for data 50% of its time" in [hint.check(values) for _ in range(3)][-1]
