"""What read tasks can prepare, told before the first step."""

import time

import pytest

from metro_ray.bodies.spec import get_spec
from metro_ray.cluster.blocks import RowReader
from metro_ray.cluster.data_budget import budget_line, cores_for, images_per_second, row_seconds
from metro_ray.training.data_source import make_transform, open_split


class Busy:
    """Burns so much CPU time for a row; the first one, which opens files, ten times as much."""

    def __init__(self, seconds):
        self.seconds, self.rows = seconds, []

    def block(self, entries, epoch):
        until = time.process_time() + self.seconds * (1 if self.rows else 10)
        self.rows += entries.tolist()
        while time.process_time() < until:
            pass


def test_rows_over_the_whole_data_set_are_measured_without_the_first():
    reader = Busy(0.004)
    assert row_seconds(reader, 1000) == pytest.approx(0.004, rel=0.5)
    assert (reader.rows[0], reader.rows[-1], len(reader.rows)) == (0, 999, 17)
    assert row_seconds(Busy(0.001), 1) == pytest.approx(0.01, rel=0.5), "one row is all there is"


def test_slow_rows_do_not_delay_the_start():
    reader = Busy(0.3)
    row_seconds(reader, 1000)
    assert len(reader.rows) <= 3


def test_rows_of_a_real_data_set_cost_something(make_config):
    config, spec = make_config(), get_spec("anny_body")
    dataset = open_split(config, spec, "train")
    reader = RowReader(dataset, make_transform(config, spec, train=True))
    assert 0 < row_seconds(reader, len(dataset)) < 1


def test_the_arithmetic_goes_both_ways():
    assert cores_for(images_per_second(0.0125, 4), 0.0125) == pytest.approx(4)
    line = budget_line(0.0125, read_tasks=4, batch_size=32)
    assert "A row takes 12.5 ms of a core: 4 read task(s)" in line
    assert "at most 291 images/s" in line
    assert "32 rows that takes less than 0.11 s waits" in line
