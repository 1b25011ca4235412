"""`metro-ray`: instant help, exit statuses, messages instead of tracebacks, verbs call their rooms."""

import hashlib
import importlib
import json
import subprocess
import sys
import time
import types

import pytest

from metro_ray.cli.main import VERBS, main
from metro_ray.errors import AssetNotFoundError, TrainingError
from metro_ray.version import __version__

BLOCKED = "import sys; sys.modules.update(torch=None, ray=None, pydantic=None, numpy=None)\n"


@pytest.fixture
def room(monkeypatch):
    """Put a stand-in of a room's module in place: room("metro_ray.cluster.train", run_train=...)."""

    def put(name, **functions):
        module = types.ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)

    return put


def exit_status(argv):
    try:
        return main(argv)
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize(
    "line", ["import metro_ray", "from metro_ray.cli.main import main; sys.exit(main(['--help']))"]
)
def test_import_and_help_are_instant_and_need_only_the_standard_library(line):
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + line], capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    assert took < 5  # 0.1 s here; the machines that run tests are shared
    if "help" in line:
        assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_without_heavy_imports(verb):
    code = BLOCKED + f"from metro_ray.cli.main import main; sys.exit(main(['{verb}', '--help']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"usage: metro-ray {verb}" in done.stdout


def test_the_entry_point_is_installed():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="metro-ray")
    assert script.load() is main


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_no_verb_shows_help(argv, capsys):
    assert main(argv) == 0
    assert "usage: metro-ray VERB" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["version"], ["--version"]])
def test_version(argv, capsys):
    assert main(argv) == 0
    assert capsys.readouterr().out.split() == ["metro_ray", __version__]


@pytest.mark.parametrize(
    ("verb", "hint"), [("trian", "did you mean train?"), ("xyz", "verbs: train")]
)
def test_unknown_verb(verb, hint, capsys):
    assert main([verb]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [TrainingError("the loss is nan"), AssetNotFoundError("no file x")]
)
def test_known_errors_are_messages_with_status_2(error, room, capsys):
    def run_train(config):
        raise error

    room("metro_ray.cluster.train", run_train=run_train)
    assert exit_status(["train", "body"]) == 2
    assert capsys.readouterr().err == f"error: {error}\n"
    assert exit_status(["train", "body", "--debug"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.endswith(f"error: {error}\n")


def test_faults_of_the_program_keep_their_traceback(room):
    def run_train(config):
        raise ZeroDivisionError

    room("metro_ray.cluster.train", run_train=run_train)
    with pytest.raises(ZeroDivisionError):
        main(["train", "body"])


def test_interrupt(room, capsys):
    def run_train(config):
        raise KeyboardInterrupt

    room("metro_ray.cluster.train", run_train=run_train)
    assert exit_status(["train", "body"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_train_hands_the_configuration_over_and_prints_the_summary(room, capsys):
    seen = []

    def run_train(config):
        seen.append(config)
        return types.SimpleNamespace(text=lambda: "the summary")

    room("metro_ray.cluster.train", run_train=run_train)
    assert main(["train", "hand", "--preset", "demo_hand", "--optim.lr", "1e-3"]) == 0
    assert (seen[0].kind, seen[0].optim.lr, seen[0].model.mesh) == ("hand", 1e-3, "anny_hand")
    assert capsys.readouterr().out == "the summary\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["train"],
        ["train", "foot"],
        ["train", "body", "--nope"],
        ["train", "body", "--optim.lrr", "1"],
    ],
)
def test_train_usage_errors(argv, capsys):
    assert exit_status(argv) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_synth_passes_its_options(room, tmp_path, capsys):
    calls = []

    def record(*args, **kwargs):
        calls.append((args, kwargs))
        return types.SimpleNamespace(summary=lambda: "what was rendered")

    room("metro_ray.data.synth", run_synth=record)
    argv = [
        "synth",
        "--kind",
        "hand",
        "--num",
        "5",
        "--out",
        str(tmp_path),
        "--seed",
        "3",
        "--name",
        "val",
    ]
    assert main(argv) == 0
    options = {
        "size": 256, "view": "wide", "setting": "varied", "processes": None, "yaml_name": "val",
    }  # fmt: skip
    assert calls == [(("hand", 5, tmp_path, 3), options)]
    assert capsys.readouterr().out == "what was rendered\n"


@pytest.mark.parametrize(
    "argv", [[], ["--kind", "foot"], ["--kind", "body", "--num", "0", "--out", "x"]]
)
def test_synth_usage_errors(argv):
    assert exit_status(["synth", *argv]) == 2


def test_convert_weights_lists_what_did_not_match(room, tmp_path, capsys):
    calls = []
    report = types.SimpleNamespace(
        used=("a", "b"), dead=("c",), matches=False, differences=lambda: "1 not in the network: z"
    )

    def convert_weights(*args, **kwargs):
        calls.append((args, kwargs))
        return report

    room("metro_ray.models.convert", convert_weights=convert_weights)
    source, target = tmp_path / "m_state_dict.bin", tmp_path / "out"
    assert main(["convert-weights", str(source), str(target), "--allow_mismatch"]) == 0
    assert calls == [((source, target), {"num_attention_heads": 4, "allow_mismatch": True})]
    told = capsys.readouterr().out
    assert "2 tensors written" in told
    assert "1 not in the network: z" in told


def test_presets_are_listed_and_shown(capsys):
    assert main(["presets"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()][:1] == ["body"]
    assert "demo_hand" in listed
    assert main(["presets", "demo"]) == 0
    assert "mesh: anny_body" in capsys.readouterr().out
    assert exit_status(["presets", "nope"]) == 2
    assert "the presets are: body" in capsys.readouterr().err


def test_doctor_reports_missing_and_present_files(tmp_path, capsys):
    assert main(["doctor", "--assets.root", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["environment"]["torch"].startswith("2.")
    assert not report["body_models"]["smpl"]["present"]
    smpl = next(a for a in report["assets"] if a["name"].startswith("basicModel"))
    assert not smpl["present"]
    assert "smpl.is.tue.mpg.de" in smpl["how_to_get"]
    assert main(["doctor", "--assets.root", str(tmp_path), "--strict"]) == 1
    text = capsys.readouterr().out
    assert "missing" in text
    assert "MANO_RIGHT.pkl" in text


def test_doctor_shows_checksums_and_tells_a_changed_file(tmp_path, capsys):
    (tmp_path / "mano_downsampling.npz").write_bytes(b"changed")
    assert main(["doctor", "--assets.root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "differs" in text
    assert f"sha256: {hashlib.sha256(b'changed').hexdigest()}" in text
    assert "published: db2b23b0" in text
    assert main(["doctor", "--assets.root", str(tmp_path), "--json"]) == 0
    assets = json.loads(capsys.readouterr().out)["assets"]
    (mano,) = [a for a in assets if a["name"] == "mano_downsampling.npz"]
    assert (mano["present"], mano["differs"], mano["size"]) == (True, True, 7)


def test_every_verb_has_a_module():
    for verb in VERBS:
        assert callable(importlib.import_module(f"metro_ray.cli.{verb.replace('-', '_')}").run)
