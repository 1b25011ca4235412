"""Dockerfile, .dockerignore, .rayignore and the Slurm script: linted, and in step with the package."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def lines(name):
    text = (ROOT / name).read_text().splitlines()
    return [line for line in text if line and not line.startswith("#")]


def test_hadolint_has_nothing_to_say_about_the_dockerfile():
    done = subprocess.run(
        [BIN / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_shellcheck_has_nothing_to_say_about_the_slurm_script():
    script = ROOT / "deploy" / "slurm" / "train.sbatch"
    done = subprocess.run([BIN / "shellcheck", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_the_image_has_both_targets_an_own_user_and_our_versions():
    text = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)
    assert {"cpu", "cuda"} <= {name for _, name in stages}
    assert text.count("-c /opt/metro_ray/constraints.txt") == 2
    assert text.count("USER 1000") == 2
    assert "TOKEN=" not in text
    python = re.search(r"ARG PYTHON=3\.(\d+)", text)
    assert python is not None
    assert 11 <= int(python[1]) <= 13


@pytest.mark.parametrize("name", [".dockerignore", ".rayignore"])
def test_data_runs_and_the_environment_are_never_shipped(name):
    ignored = {line.strip("/") for line in lines(name)}
    assert {".git", ".venv", "runs", "output", "data", "datasets", "assets"} <= ignored
    assert not {"metro_ray", "jobs", "pyproject.toml", "constraints.txt"} & ignored


def test_the_on_premise_launcher_passes_rays_validation_and_demands_the_token():
    from ray.autoscaler._private.util import prepare_config, validate_config

    path = ROOT / "deploy" / "on-premise.yaml"
    launcher = yaml.safe_load(path.read_text())
    validate_config(prepare_config(launcher))
    assert launcher["max_workers"] == len(launcher["provider"]["worker_ips"])
    for command in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token" in launcher[command][1]
    assert "chmod 600 ~/.ray/auth_token" in launcher["setup_commands"]
    assert "0.0.0.0" not in path.read_text()
