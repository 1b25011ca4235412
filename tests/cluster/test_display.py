"""The bar on the driver's terminal, and what the ranks leave for it."""

import io
import json
import time
from dataclasses import asdict

import pytest
from rich.console import Console

from metro_ray.cluster.display import live_display, state_texts
from metro_ray.training.live import FILE, LiveState

STATE = LiveState(
    phase="training", epoch=1, epochs=3, step=25, done_steps=25, all_steps=60, loss=12.345678,
    images_per_second=87.65, data_wait_share=0.125, seconds_left=3725.0, memory_mib=2560.0,
)  # fmt: skip


def test_the_bar_names_epoch_step_loss_speed_wait_and_time_left():
    before, behind = state_texts(STATE)
    assert before == "training epoch 2/3"
    assert behind == (
        "1:02:05 left, step 25/60, loss 12.35, 87.7 images/s, data wait 12 %, 2.5 GiB"
    )


@pytest.mark.parametrize("width", [160, 80, 60])
def test_a_terminal_shows_the_state_that_the_rank_wrote(tmp_path, width):
    (tmp_path / FILE).write_text("of an earlier run")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width)
    with live_display(tmp_path, console):
        assert not (tmp_path / FILE).exists()
        (tmp_path / FILE).write_text('{"half of')
        time.sleep(0.6)
        (tmp_path / FILE).write_text(json.dumps(asdict(STATE)))
        deadline = time.monotonic() + 20
        while "1:02:05 left" not in screen.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
    shown = screen.getvalue()
    for part in ("training epoch 2/3", "1:02:05 left", "\N{BOX DRAWINGS HEAVY HORIZONTAL}"):
        assert part in shown
    assert ("2.5 GiB" in shown) == (width == 160)


def test_a_file_is_no_terminal_whatever_colours_are_forced(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with live_display(tmp_path):
        (tmp_path / FILE).write_text(json.dumps(asdict(STATE)))
        time.sleep(0.7)
    assert capsys.readouterr().out == ""


def test_no_bar_where_the_output_is_a_file(tmp_path):
    screen = io.StringIO()
    with live_display(tmp_path, Console(file=screen)):
        (tmp_path / FILE).write_text(json.dumps(asdict(STATE)))
    assert screen.getvalue() == ""
