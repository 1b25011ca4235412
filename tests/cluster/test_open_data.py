"""Data sets that a run renders for itself."""

import json

import pytest

from metro_ray.cluster.preflight import check_run
from metro_ray.config.load import load_config
from metro_ray.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("open")


@pytest.fixture(scope="module")
def settings(folder):
    return {
        "data.train_yaml": str(folder / "data" / "train.yaml"),
        "data.val_yaml": str(folder / "data" / "val.yaml"),
        "data.synth_train": 3,
        "data.synth_val": 2,
        "run.output_dir": str(folder / "run"),
    }


def test_missing_data_are_rendered_as_the_settings_say(folder, settings):
    check_run(load_config("hand", "demo_hand", settings))
    made = json.loads((folder / "data" / "train.synth.json").read_text())
    assert (made["num"], made["view"], made["setting"]) == (3, "front", "studio")
    assert made["seed"] != json.loads((folder / "data" / "val.synth.json").read_text())["seed"]
    before = (folder / "data" / "train.img.tsv").stat().st_mtime_ns
    check_run(load_config("hand", "demo_hand", settings))
    assert (folder / "data" / "train.img.tsv").stat().st_mtime_ns == before


def test_data_rendered_with_other_settings_are_refused(folder, settings):
    check_run(load_config("hand", "demo_hand", settings))
    other = settings | {"data.synth_setting": "varied"}
    with pytest.raises(
        DataError, match=r"setting 'studio' there, 'varied' asked for.*another folder"
    ):
        check_run(load_config("hand", "demo_hand", other))
