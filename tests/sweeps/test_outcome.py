"""What a sweep leaves behind: best.json, best.yaml, table, status, report."""

import csv
import re
import shutil

import pyarrow.parquet as pq
import pytest
from past_sweep import write_metrics

from metro_ray.config.load import load_config
from metro_ray.errors import CheckpointError
from metro_ray.sweeps.best import best_checkpoint, write_best
from metro_ray.sweeps.importance import importances
from metro_ray.sweeps.ledger import Ledger, Trial
from metro_ray.sweeps.report import write_report
from metro_ray.sweeps.status import status_text
from metro_ray.sweeps.table import rows, write_table


def test_the_best_checkpoint_is_found_wherever_the_sweep_is_moved(ledger, record, tmp_path):
    write_best(ledger, record)
    moved = tmp_path / "elsewhere"
    shutil.move(ledger.folder, moved)
    best = best_checkpoint(moved)
    assert (best.trial, best.value, best.epoch) == (2, 110.0, 3)
    assert best.checkpoint == moved / "trials" / "002" / "checkpoints" / "best"
    assert best.values == {"optim.lr": 3e-4, "model.num_hidden_layers": 4}


def test_the_best_settings_are_a_preset(ledger, record):
    best = write_best(ledger, record)
    config = load_config("body", best.config)
    assert (config.optim.lr, config.model.num_hidden_layers) == (3e-4, 4)
    assert config.eval == record.base.eval
    assert config.run.output_dir == str(ledger.folder / "best_run")
    assert not config.run.resume


def test_a_trial_that_goes_on_is_not_the_best_yet(ledger, record):
    """Its checkpoint may be replaced while somebody reads it."""
    assert ledger.trials[6].state == "running"
    for number in (0, 2, 5):
        shutil.rmtree(ledger.trial_folder(number) / "checkpoints")
    assert write_best(ledger, record).trial == 1


def test_without_a_checkpoint_it_is_said_what_to_do(ledger, record, tmp_path):
    with pytest.raises(CheckpointError, match="holds no sweep"):
        best_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        best_checkpoint(ledger.folder)
    best = write_best(ledger, record)
    shutil.rmtree(best.checkpoint.parent)
    with pytest.raises(CheckpointError, match="not a complete checkpoint"):
        best_checkpoint(ledger.folder)


def test_both_tables_hold_every_trial(ledger, record):
    write_table(ledger, record)
    table = pq.read_table(ledger.folder / "trials.parquet").to_pylist()
    assert table == rows(ledger, record)
    with (ledger.folder / "trials.csv").open(newline="") as file:
        text = list(csv.DictReader(file))
    assert [row["trial"] for row in text] == [str(row["trial"]) for row in table]
    by_number = {row["trial"]: row for row in table}
    assert by_number[2]["pa_mpjpe_mm"] == 110.0
    assert by_number[2]["best_epoch"] == 3
    assert by_number[2]["seconds"] == 80.0
    assert by_number[4]["error"] == "rank 0 failed"
    assert by_number[4]["pa_mpjpe_mm"] is None


def test_status_ranks_what_is_there(ledger):
    lines = status_text(ledger).splitlines()
    assert "7 of 8 trials begun; 2 done, 3 stopped, 1 failed, 1 running" in lines[0]
    assert "best: trial 2, PA-MPJPE 110.0 mm after epoch 3" in lines[1]
    assert [int(line.split()[0]) for line in lines[3:]] == [2, 0, 6, 5, 1, 3, 4]


def test_the_report_opens_without_a_network_and_shows_every_trial(ledger, record):
    write_report(ledger, record)
    page = (ledger.folder / "report.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "<script" not in page
    for number in (0, 1, 2, 3, 5, 6):
        assert f"trial {number}: " in page
    for title in ("Learning rate and error", "Layers and error", "Speed and error"):
        assert title in page
    assert "Parameters and error" in page
    assert page.count('class="cross"') == 3, "a cross where a trial was stopped"
    assert "rank 0 failed" in page
    assert "NaN" not in page
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan", "", page.lower())


def test_a_report_of_a_sweep_without_a_validation_says_so(ledger, record):
    for number in list(ledger.trials):
        shutil.rmtree(ledger.trial_folder(number))
        ledger.trials.pop(number)
    write_report(ledger, record)
    assert "none yet" in (ledger.folder / "report.html").read_text()


def test_the_setting_that_decides_is_the_most_important(ledger, record):
    shares, remark = importances(ledger, record)
    assert set(shares) == {"optim.lr", "model.num_hidden_layers"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert "6 trials" in remark
    ledger.trials.pop(6)
    assert importances(ledger, record)[0] == {}


def test_importance_follows_the_error(tmp_path, record):
    ledger = Ledger.begin(tmp_path / "other", record)
    for number in range(16):
        values = seeded_values(record, number)
        ledger.put(Trial(number=number, values=values, state="done", epochs=1))
        layers = values["model.num_hidden_layers"]
        write_metrics(ledger.trial_folder(number), [100.0 + 30.0 * layers])
    shares, _ = importances(ledger, record)
    assert shares["model.num_hidden_layers"] > 0.8


def seeded_values(record, number):
    import random

    return record.space.draw(random.Random(number))


def test_one_bad_trial_does_not_squeeze_the_others():
    from metro_ray.sweeps.axes import error_axis

    axis = error_axis("mm", [100.0, 105.0, 110.0, 112.0, 900.0])
    assert axis.high < 200
    assert axis.place(900.0) == 1.0
    assert 0 < axis.place(100.0) < axis.place(112.0) < 1
    assert error_axis("mm", [100.0, 100.0, 900.0]).place(100.0) < 0.1
    assert error_axis("mm", [100.0]).place(100.0) == pytest.approx(0.5)
