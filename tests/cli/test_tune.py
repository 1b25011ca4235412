"""`metro-ray tune`: what can be seen without a cluster."""

import pytest

from metro_ray.cli.main import main
from metro_ray.config.space_files import list_spaces

DRY = ["tune", "body", "--preset", "demo", "--scaling.train_workers", "1", "--dry-run"]


def test_a_dry_run_lists_trials_with_their_cost_and_starts_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main([*DRY, "--tune.trials", "4", "--tune.search", "random"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("4 trials of 2 epochs, search random, early stopping asha")
    head = next(number for number, line in enumerate(lines) if "parameters" in line)
    trials = [line.split() for line in lines[head + 1 : head + 5]]
    assert [trial[0] for trial in trials] == ["0", "1", "2", "3"]
    assert trials[0][1:3] == ["0.0013", "1"], "the first has the preset's own settings"
    by_layers = {trial[2]: trial[3] for trial in trials}
    assert by_layers["1"] == "27.3"
    assert all(trial[-1] == "GiB" for trial in trials)
    assert "at a time" in lines[-1]
    assert list(tmp_path.iterdir()) == [], "no data was rendered"


def test_a_network_that_cannot_be_built_is_refused_before_anything_starts(capsys, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("model.arch: {choice: [hrnet-w18-small, hrnet-w99]}\n")
    with pytest.raises(SystemExit):
        main([*DRY, "--tune.space", str(space), "--tune.search", "grid"])
    assert "hrnet-w99" in capsys.readouterr().err


def test_more_at_a_time_than_there_is_place_for_is_refused(capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SystemExit):
        main([*DRY, "--tune.trials", "2", "--tune.concurrent", "5000", "--run.device", "cpu"])
    assert "5000 trials at a time, but there is place for" in capsys.readouterr().err


def test_spaces_are_listed(capsys):
    assert main(["tune", "--spaces"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in list_spaces())


def test_status_of_no_sweep_is_an_error(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["tune", "--status", str(tmp_path)])
    assert ended.value.code == 2
    assert "holds no sweep" in capsys.readouterr().err


def test_body_or_hand_is_needed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["tune"])
    assert ended.value.code == 2
    assert "body or hand" in capsys.readouterr().err
