"""`metro-ray serve`, `serve-key`, `serve-swap`: what they refuse, print and leave behind."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
import yaml
from served import write_checkpoint

from metro_ray.cli.main import main


def status_of(argv):
    try:
        return main(argv)
    except SystemExit as stop:
        return stop.code


def test_the_printed_configuration_serves_what_the_options_say(tmp_path, capsys):
    write_checkpoint(tmp_path / "run" / "checkpoints", "hand", 1, 5)
    options = ["--gpus", "0.5", "--max-replicas", "3", "--port", "8123", "--print-config"]
    assert main(["serve", str(tmp_path / "run"), *options, "--set", "limits.max_people=3"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["http_options"] == {"host": "127.0.0.1", "port": 8123}
    args = config["applications"][0]["args"]
    assert args["hand"]["checkpoint"] == str(tmp_path / "run")
    assert args["hand"]["gpus"] == 0.5
    assert args["hand"]["replicas"] == {"max_replicas": 3}
    assert args["limits"] == {"max_people": 3}


def test_what_cannot_be_served_is_told_before_anything_starts(tmp_path, capsys):
    run = tmp_path / "run"
    write_checkpoint(run / "checkpoints", "body", 1, 5)
    for argv, words in (
        ([], "nothing to serve"),
        ([str(tmp_path / "none")], "checkpoints/best"),
        (["--from-sweep", str(run)], "holds no sweep"),
        ([str(run), "--from-sweep", str(run)], "not both"),
        ([str(run), "--set", "limits.people=3"], "max_people"),
        ([str(run), "--set", "limits"], "KEY=VALUE"),
        ([str(run), "--keys", str(tmp_path / "none.yaml"), "--print-config"], None),
    ):
        assert status_of(["serve", *argv]) == (0 if words is None else 2)
        assert words is None or words in capsys.readouterr().err


def test_a_key_is_shown_once(tmp_path, capsys):
    file = tmp_path / "keys.yaml"
    assert main(["serve-key", "alice", "--file", str(file), "--rate", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("mr_")
    assert printed.out.strip() not in file.read_text()
    assert yaml.safe_load(file.read_text())["keys"][0]["requests_per_s"] == 2
    assert status_of(["serve-key", "alice", "--file", str(file)]) == 2
    assert "already" in capsys.readouterr().err
    assert status_of(["serve-key", "a b", "--file", str(file)]) == 2


def test_swapping_nothing_or_nowhere(capsys):
    assert status_of(["serve-swap", "body"]) == 2
    assert "nothing to change" in capsys.readouterr().err
    argv = ["serve-swap", "body", "x", "--dashboard", "http://127.0.0.1:9"]
    assert status_of(argv) == 2
    assert "no Ray cluster" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_it_serves_until_it_is_told_to_stop(tmp_path):
    write_checkpoint(tmp_path / "run" / "checkpoints", "hand", 1, 5)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "metro_ray.cli.main", "serve", str(tmp_path / "run")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    process = subprocess.Popen(
        [*command, "--port", port],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("try: curl"):
                break
        assert f"serving hand at http://127.0.0.1:{port}\n" in lines, "".join(lines)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=90)
    finally:
        process.kill()
    assert "stopping" in rest
    assert "Traceback" not in rest
    assert process.returncode == 0
