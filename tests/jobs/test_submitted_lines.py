"""The lines of README, docs and jobs that submit a job, run as they stand there on a head with a token.

Only what every reader changes is changed: the address, and where shared storage is. Flags behind
each line make its run one of seconds.
"""

import json
import subprocess
from pathlib import Path

import pytest
from small_rows import write_rows
from tiny_job import TINY
from written_commands import ROOT, written_commands

from metro_ray.bodies.spec import get_spec

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WRITTEN = written_commands()
TRAINING = [
    command
    for command in WRITTEN
    if command.page != "jobs/train_body.py"  # the README's
    and command.words[:3] in (["ray", "job", "submit"], ["metro-ray", "submit", "train_body"])
    and any("train_" in word for word in command.words)
]


@pytest.fixture
def shared(tmp_path):
    """What stands for /shared: with data sets of bodies and of hands."""
    write_rows(tmp_path / "data", "train", 12)
    write_rows(tmp_path / "hands", "train", 12, spec=get_spec("anny_hand"))
    return tmp_path


def run_line(head, words, shared, more=()):
    """Run a line in the project's folder; returns its output, which must be of a success."""
    changed = {"http://127.0.0.1:8265": head.address}
    for word in words:
        for place in ("/shared", "$PWD"):
            if word.startswith(place):
                changed[word] = str(shared) + word.removeprefix(place)
    line = [changed.get(word, word) for word in words]
    done = subprocess.run(
        [*line, *map(str, more)],
        cwd=ROOT,
        env=head.environment | {"RAY_API_SERVER_ADDRESS": head.address},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def small(words, shared, kind="body"):
    """Flags behind a line of training, for what it leaves open; and where it writes to."""
    rows = shared / ("data" if kind == "body" else "hands") / "train.yaml"
    tiny = [flag.replace("anny_body", f"anny_{kind}") for flag in TINY]
    more = [*tiny, "--val_yaml", rows]
    more += ["--data.synth_train", "0", "--data.synth_val", "0"]
    if "--train_yaml" not in words:
        more += ["--train_yaml", rows]
    if "--run.output_dir" in words:
        given = words[words.index("--run.output_dir") + 1]
        return more, Path(given.replace("/shared", str(shared)).replace("$PWD", str(shared)))
    return [*more, "--run.output_dir", shared / "run"], shared / "run"


@pytest.mark.parametrize("command", TRAINING, ids=str)
def test_a_line_that_submits_training_trains(command, head, shared):
    kind = "hand" if "train_hand" in str(command) else "body"
    more, run = small(command.words, shared, kind)
    output = run_line(head, command.words, shared, more)
    result = json.loads((run / "result.json").read_text())
    assert result["val/num_rows"] == 12
    assert str(run / "result.json") in output
    if kind == "body" and (command.page, command.words[0]) != ("README.md", "ray"):
        return
    for task in ("eval", "predict"):
        [shown] = [c for c in WRITTEN if c.page == f"jobs/{task}_{kind}.py"][:1]
        rows = shared / ("data" if kind == "body" else "hands") / "train.yaml"
        checkpoint = {"eval": "--resume_checkpoint", "predict": "--model_path"}[task]
        assert checkpoint in shown.words
        submit = ["ray", "job", "submit", "--working-dir", ".", "--", *shown.words[:2]]
        more = [checkpoint, run / "checkpoints" / "best", "--val_yaml", rows, "--run.device", "cpu"]
        output = run_line(head, submit, shared, [*more, "--run.output_dir", shared / task])
        assert str(shared / task) in output


def test_a_night_of_trials_is_submitted_looked_at_and_followed(head, shared):
    lines = [c.words for c in WRITTEN if "night-1" in c.words]
    assert [words[2] for words in lines] == ["--no-wait", "--status", "--follow", "--stop"]
    more, _ = small(lines[0], shared)
    assert run_line(head, lines[0], shared, [*more, "--dry-run"]).strip() == "night-1"
    assert run_line(head, lines[1], shared).startswith("night-1 ")
    assert "8 trials" in run_line(head, lines[2], shared)
    assert run_line(head, lines[3], shared).startswith("night-1 SUCCEEDED")
