"""README, docs and the jobs' docstrings: every command parses; those that submit jobs are run as they stand."""

import re
import shlex
import shutil

import click
import pytest
from written_commands import ROOT, options_of, parse, written_commands

from metro_ray.errors import MetroRayError

COMMANDS = written_commands()
WHOLE = [command for command in COMMANDS if command.is_whole]
NAMED = [command for command in COMMANDS if not command.is_whole]


@pytest.fixture(scope="module")
def beside_a_sweep(tmp_path_factory):
    """A folder with what the commands take for granted: a sweep's best settings."""
    folder = tmp_path_factory.mktemp("project")
    best = folder / "runs" / "sweep" / "best.yaml"
    best.parent.mkdir(parents=True)
    shutil.copy(ROOT / "metro_ray" / "presets" / "demo.yaml", best)
    return folder


def why_not(words):
    """What is wrong with a command; None where its program would go on to the work."""
    try:
        parse(words)
    except SystemExit as stop:
        return f"it ends with {stop.code}" if stop.code else None
    except (MetroRayError, click.UsageError, AssertionError) as error:
        return str(error)
    return None


def test_the_commands_are_found():
    verbs = {command.words[1] for command in WHOLE if command.words[0] == "metro-ray"}
    assert {"train", "submit", "plan", "tune", "predict", "serve", "call", "data"} <= verbs
    jobs = {word for c in WHOLE for word in c.words if word.startswith("jobs/")}
    assert jobs == {path.relative_to(ROOT).as_posix() for path in (ROOT / "jobs").glob("*.py")}


@pytest.mark.parametrize("command", WHOLE, ids=str)
def test_a_command_that_is_shown_parses(command, beside_a_sweep, monkeypatch):
    monkeypatch.chdir(beside_a_sweep)
    assert why_not(command.words) is None


@pytest.mark.parametrize("command", NAMED, ids=str)
def test_a_command_that_is_named_exists_with_its_options(command, beside_a_sweep, monkeypatch):
    monkeypatch.chdir(beside_a_sweep)
    program, verb, *rest = command.words
    options = [word for word in rest if word.startswith("--")]
    if program == "metro-ray" and verb not in ("train", "tune", "submit", "presets"):
        if verb == "data" and not rest:
            return
        shown = options_of(command.words)
        assert not [option for option in options if not re.search(rf"{option}\b", shown)]
    elif program == "python" or (verb in ("train", "submit") and len(rest) > 1):
        assert why_not(command.words) is None


@pytest.mark.parametrize(
    "line",
    [
        "metro-ray submit train_body --preset dem",
        "metro-ray tune body --tune.trails 8",
        "metro-ray data convert a.yaml b.parquet --cropp 512",
        "metro-ray predit photo.jpg",
        "python jobs/train_bdy.py",
        "python benchmarks/ingest.py --kinds hand",
        "ray job submit --addres http://127.0.0.1:8265 -- python jobs/train_body.py",
        "ray job submit -- python jobs/train_body.py --optim.rate 1",
        "make demos",
    ],
)
def test_a_wrong_command_would_be_noticed(line):
    assert why_not(shlex.split(line))
