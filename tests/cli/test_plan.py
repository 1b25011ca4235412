"""`metro-ray plan`: flags of the run count, figures can be replaced, mistakes are explained."""

import json

import pytest

from metro_ray.cli.plan import run
from metro_ray.errors import ConfigError
from metro_ray.planning.work import StepWork

COMMON = ["--dataset-rows", "300000", "--gpus", "16", "--gpu", "h100"]


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """Counting the full network takes seconds; tests/planning does it."""
    monkeypatch.setattr(
        "metro_ray.planning.work.count_work", lambda config: StepWork(3e11, 2 * 10**8)
    )


def plan(capsys, *argv):
    assert run([*COMMON, *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_flags_of_the_run_and_own_figures_count(capsys):
    metro = plan(capsys, "--preset", "body")
    fast = plan(capsys, "--preset", "body", "--data.crop", "fast", "--optim.precision", "bf16")
    assert metro["site"]["nodes"] == 2
    assert metro["load"]["epochs"] == 200
    assert fast["load"]["row_ms"] < metro["load"]["row_ms"]
    assert fast["site"]["images_per_second"] > metro["site"]["images_per_second"]
    own = plan(capsys, "--images-per-second", "100", "--price", "1", "--num_train_epochs", "1")
    assert own["site"]["rate_source"].startswith("given")
    assert own["steps"] == 625
    assert own["hours"] == pytest.approx(625 * 0.3 / 3600)
    assert own["dollars"] == pytest.approx(own["hours"] * 16)


def test_the_text_says_what_is_assumed_and_what_the_bottleneck_is(capsys):
    assert run(COMMON) == 0
    text = capsys.readouterr().out
    assert "20% (assumed) of 66.9 TFLOP/s in fp32" in text
    assert "the bottleneck is compute" in text
    assert run([*COMMON, "--cpus-per-gpu", "2", "--optim.tf32", "true"]) == 0
    assert "the bottleneck is decoding" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--gpu", "b300"], "no figures for --gpu b300; known are h100, h200, a100, l4, cpu"),
        (["--gpus", "0"], "--gpus must be > 0, got 0"),
        (["--mfu", "2"], "--mfu must be at most 1"),
        (["--mfu", "0.3", "--images-per-second", "9"], "say the same thing"),
        (["--optim.lr", "-1"], "optim.lr must be > 0"),
    ],
)
def test_mistakes_are_explained(argv, words):
    with pytest.raises(ConfigError, match=words):
        run([*COMMON, *argv])
