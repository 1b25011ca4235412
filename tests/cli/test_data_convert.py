"""`metro-ray data convert` as people type it."""

import json

import pytest
from small_rows import write_rows

from metro_ray.cli.main import main
from metro_ray.data import open_dataset


def test_a_data_set_is_converted_and_what_was_left_out_is_listed(tmp_path, capsys):
    source = write_rows(tmp_path, "train", 6, broken=(2,))
    target = tmp_path / "crops.parquet"
    assert main(["data", "convert", str(source), str(target), "--crop", "64"]) == 0
    printed = capsys.readouterr().out
    assert f"wrote 5 rows: {target}" in printed
    assert "1 rows were left out because they cannot be read:\n  row 2 (row2.jpg)" in printed
    assert len(open_dataset(target)) == 5
    assert json.loads((target / "dataset.json").read_text())["sources"] == ["train"]


def test_raw_data_sets_are_listed_and_their_names_checked(tmp_path, capsys):
    assert main(["data", "convert", "--raw", "list"]) == 0
    assert "3dpw" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["data", "convert", "--raw", "freihan", str(tmp_path), str(tmp_path / "x.parquet")])
    assert stop.value.code == 2
    assert "unknown raw data set 'freihan'" in capsys.readouterr().err


def test_what_is_missing_is_said(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["data", "convert", "train.yaml"])
    assert stop.value.code == 2
    assert "required: source, target" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "convert", "--option", "x"])
    assert "expected KEY=VALUE" in capsys.readouterr().err
