"""A checkpoint brings the settings of its network; what contradicts it is refused."""

import json
import shutil

import pytest
import torch

from metro_ray.bodies import load_body
from metro_ray.config.load import load_config, to_dict
from metro_ray.errors import CheckpointError, ConfigError
from metro_ray.evaluation.from_checkpoint import config_of_checkpoint, read_facts
from metro_ray.models.convert import convert_weights, to_metro_state_dict
from metro_ray.training.builders import build_model
from metro_ray.training.checkpoint import save_checkpoint
from metro_ray.training.checkpoint_meta import META, CheckpointMeta

SMALL = {
    "model.mesh": "anny_hand",
    "model.arch": "hrnet-w18-small",
    "model.num_hidden_layers": 1,
    "model.num_attention_heads": 2,
    "model.input_feat_dim": (2051, 16),
    "model.hidden_feat_dim": (16, 8),
    "optim.precision": "bf16",
    "optim.lr": 0.5,
}


@pytest.fixture(scope="module")
def network():
    config = load_config("hand", overrides=SMALL)
    return config, build_model(config, load_body("anny_hand"))


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    config, model = network
    meta = CheckpointMeta(config=to_dict(config), mesh="anny_hand", epoch=7, step=70)
    root = tmp_path_factory.mktemp("checkpoints")
    return save_checkpoint(root, model, torch.optim.Adam(model.parameters()), meta)[0]


@pytest.fixture(scope="module")
def metro_file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("metro") / "metro_hand_state_dict.bin"
    torch.save(to_metro_state_dict(network[1]), path)
    return path


def test_a_folder_brings_its_network_and_arithmetic_but_not_its_training(folder):
    config, facts = config_of_checkpoint("hand", {"run.resume_checkpoint": str(folder)})
    assert config.model.arch == "hrnet-w18-small"
    assert config.model.hidden_feat_dim == (16, 8)
    assert config.model.num_attention_heads == 2
    assert config.model.mesh == "anny_hand"
    assert config.optim.precision == "bf16"
    assert config.optim.lr == 1e-4
    assert facts.epoch == 7


def test_what_is_given_wins_where_the_network_leaves_a_choice(folder):
    given = {"run.resume_checkpoint": str(folder), "optim.precision": "fp32", "model.mesh": "auto"}
    config = config_of_checkpoint("hand", given).config
    assert config.optim.precision == "fp32"
    assert config.model.mesh == "anny_hand"


def test_another_architecture_is_refused_by_name(folder):
    given = {"run.resume_checkpoint": str(folder), "model.arch": "hrnet-w64"}
    with pytest.raises(
        CheckpointError, match=r"model\.arch is hrnet-w18-small there and hrnet-w64"
    ):
        config_of_checkpoint("hand", given)


def test_metros_file_is_told_by_its_tensors(metro_file):
    given = {"run.resume_checkpoint": str(metro_file), "model.num_attention_heads": 2}
    config, facts = config_of_checkpoint("hand", given)
    assert config.model.arch == "hrnet-w18-small"
    assert config.model.input_feat_dim == (2051, 16)
    assert config.model.num_hidden_layers == 1
    assert config.model.num_attention_heads == 2
    assert config.optim.precision == "fp32"
    assert facts.epoch is None
    with pytest.raises(
        CheckpointError, match=r"model\.hidden_feat_dim is \(16, 8\) there and \(8, 8\)"
    ):
        config_of_checkpoint("hand", {**given, "model.hidden_feat_dim": (8, 8)})


def test_a_converted_file_has_no_epoch_either(metro_file, tmp_path):
    convert_weights(metro_file, tmp_path / "folder", num_attention_heads=2)
    facts = read_facts(tmp_path / "folder")
    assert facts.epoch is None
    assert facts.settings["model.num_attention_heads"] == 2


def test_the_other_kind_is_told_which_job_to_use(folder):
    with pytest.raises(
        ConfigError, match=r"predicts anny_hand, a hand: use .*jobs/predict_hand\.py"
    ):
        config_of_checkpoint("body", {"run.resume_checkpoint": str(folder)})


def test_no_checkpoint_and_one_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"which checkpoint\? Give --model_path"):
        config_of_checkpoint("hand", {})
    with pytest.raises(CheckpointError, match=r"absent does not exist"):
        config_of_checkpoint("hand", {"run.resume_checkpoint": str(tmp_path / "absent")})
    with pytest.raises(CheckpointError, match=r"is not a complete checkpoint"):
        config_of_checkpoint("hand", {"run.resume_checkpoint": str(tmp_path)})


def test_settings_of_another_version_in_a_checkpoint_are_named(folder, tmp_path):

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    meta = json.loads((copy / META).read_text())
    meta["config"]["model"]["wings"] = 2
    (copy / META).write_text(json.dumps(meta))
    with pytest.raises(ConfigError, match=r"meta\.json: unknown setting model\.wings"):
        read_facts(copy)


def test_hrnet_is_another_name_of_its_w40(monkeypatch, folder):
    facts = read_facts(folder)
    facts = facts._replace(settings=facts.settings | {"model.arch": "hrnet-w40"})
    monkeypatch.setattr("metro_ray.evaluation.from_checkpoint.read_facts", lambda path: facts)
    given = {"run.resume_checkpoint": str(folder), "model.arch": "hrnet"}
    assert config_of_checkpoint("hand", given).config.model.arch == "hrnet"
