"""Parts that the pages of runs and of evaluations share."""

from metro_ray.config.load import load_config
from metro_ray.inference.report_parts import settings_table


def test_settings_stand_beside_those_of_the_preset_and_of_metro():
    text = settings_table(load_config("body", "demo", {"optim.lr": 2e-4}))
    of_preset, _, of_metro = text.partition("Settings that differ from METRO")
    assert "Settings that differ from the preset demo" in of_preset
    assert "optim.lr" in of_preset
    assert "0.0013" in of_preset  # the preset's
    assert "model.arch" not in of_preset
    assert "model.arch" in of_metro


def test_a_run_without_a_preset_stands_beside_metro_only():
    text = settings_table(load_config("hand", overrides={"optim.lr": 2e-4}))
    assert "preset" not in text
    assert "optim.lr" in text


def test_a_preset_that_is_gone_is_told(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("optim: {lr: 2.0e-4}\n")
    config = load_config("body", preset)
    preset.unlink()
    text = settings_table(config)
    assert f"The preset {preset} is not there any more." in text
    assert "optim.lr" in text
