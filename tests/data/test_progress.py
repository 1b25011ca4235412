import pytest

from metro_ray.data import progress
from metro_ray.data.progress import pace_text, show_progress


@pytest.fixture
def clock(monkeypatch):
    """Time that only the work lets pass."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_steps_that_finish_nothing_and_slow_ones_are_told(clock, capsys):
    def steps():
        for finished in (0, 0, 1, 1):
            clock[0] += 12.0
            yield finished

    show_progress(steps(), 2, what="rows")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "rows: 0/2, nothing finished yet",
        "rows: 0/2, nothing finished yet",
        "rows: 1/2, 36 s each, 36 s left",
        "rows: 2/2, 24 s each, 0 s left",
    ]


def test_what_was_there_before_is_not_counted_as_speed(clock, capsys):
    def steps():
        clock[0] += 10.0
        yield 400

    show_progress(steps(), 1000, done=200, what="rows")
    assert capsys.readouterr().err == "rows: 600/1000, 40/s, 10 s left\n"


@pytest.mark.parametrize(
    ("count", "seconds", "expected"),
    [(30, 10.0, "3/s, 2 s left"), (1, 1.6, "1.6 s each, 8 s left"), (5, 0.0, "nothing finished yet")],
)  # fmt: skip
def test_rates_have_digits_where_they_are_small(count, seconds, expected):
    assert pace_text(count, seconds, left=5).startswith(expected)
