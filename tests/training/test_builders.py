"""The lines that `../shared/mission` shows, in its order."""

from dataclasses import replace

import pytest
import torch

from metro_ray.bodies import get_spec, load_body
from metro_ray.config.load import load_config
from metro_ray.errors import CheckpointError, ConfigError
from metro_ray.training.builders import build_model, load_start_weights, loss_weights
from metro_ray.training.logs import log_validation, run_log

MISSION = """\
METRO INFO: Update config parameter num_hidden_layers: 12 -> 4
METRO INFO: Update config parameter hidden_size: 768 -> 1024
METRO INFO: Update config parameter num_attention_heads: 12 -> 4
METRO INFO: Init model from scratch.
METRO INFO: Update config parameter num_hidden_layers: 12 -> 4
METRO INFO: Update config parameter hidden_size: 768 -> 256
METRO INFO: Update config parameter num_attention_heads: 12 -> 4
METRO INFO: Init model from scratch.
METRO INFO: Update config parameter num_hidden_layers: 12 -> 4
METRO INFO: Update config parameter hidden_size: 768 -> 128
METRO INFO: Update config parameter num_attention_heads: 12 -> 4
METRO INFO: Init model from scratch.
METRO INFO: => loading hrnet-v2-w64 model
METRO INFO: Transformers total parameters: 102256646
METRO INFO: Backbone total parameters: 128059944
""".splitlines()


def lines_of(capsys, tmp_path, action):
    with run_log(tmp_path, rank=0):
        action()
    return capsys.readouterr().out.splitlines()


class SmplNumbers:
    """What `build_model` asks of a body model, without SMPL's files."""

    def __init__(self):
        self.spec = get_spec("smpl")

    def template_tokens(self):
        return torch.zeros(self.spec.num_tokens, 3)


def test_body_lines_are_those_of_the_mission(capsys, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "metro_ray.training.builders.load_backbone_weights",
        lambda model, name, allow_mismatch: loaded.append(name),
    )
    config = load_config("body", overrides={"model.backbone_weights": "w64.pth"})
    lines = lines_of(capsys, tmp_path, lambda: build_model(config, SmplNumbers()))
    assert lines[: len(MISSION)] == MISSION
    assert len(lines) == len(MISSION) + 1
    assert "never get a gradient" in lines[-1]
    assert loaded == ["w64.pth"]


def test_backbone_without_weights_does_not_claim_to_load(capsys, tmp_path, make_config, body):
    lines = lines_of(capsys, tmp_path, lambda: build_model(make_config(), body))
    assert "METRO INFO: Init backbone tiny from scratch." in lines
    assert not any("=> loading" in line for line in lines)


def test_hand_logs_its_feed_forward_width(capsys, tmp_path, make_config, body):
    body = SmplNumbers()
    body.spec = replace(body.spec, intermediate_size="4x")
    lines = lines_of(capsys, tmp_path, lambda: build_model(make_config(), body))
    assert "METRO INFO: Update config parameter intermediate_size: 3072 -> 64" in lines


def test_start_weights_are_named_and_must_fit(capsys, tmp_path, make_config, body):
    model = build_model(make_config(), body)
    path = tmp_path / "state_dict.bin"
    torch.save({"nothing": torch.zeros(1)}, path)
    config = make_config(run__resume_checkpoint=str(path))
    with pytest.raises(CheckpointError):
        lines_of(capsys, tmp_path, lambda: load_start_weights(model, config, body.spec))
    assert f"METRO INFO: Loading state dict from checkpoint {path}" in capsys.readouterr().out


def test_evaluating_without_weights_warns(capsys, tmp_path, make_config, body):
    model = build_model(make_config(), body)
    config = make_config(eval__only=True)
    lines = lines_of(capsys, tmp_path, lambda: load_start_weights(model, config, body.spec))
    assert lines[0].startswith("METRO WARNING: Evaluating weights from scratch")


def test_loss_levels_must_match_the_mesh(make_config, body):
    with pytest.raises(ConfigError, match=r"loss\.levels has 2 shares, but smpl has 3"):
        loss_weights(make_config(loss__levels=(0.5, 0.5)), body.spec)


def test_validation_line_has_the_mission_form(capsys, tmp_path):
    line = "Validation epoch: 0  mPVE:   0.00, mPJPE:  54.04, PAmPJPE:  36.75"
    assert lines_of(capsys, tmp_path, lambda: log_validation(line)) == [f"INFO:METRO:{line}"]


def test_other_ranks_are_quiet(capsys, tmp_path):
    with run_log(tmp_path / "run", rank=1):
        log_validation("Validation epoch: 0")
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "run").exists()


def test_real_body_model_and_backbone_go_together(tmp_path):
    config = load_config("body", overrides={"model.arch": "hrnet-w18-small"})
    body = load_body("anny_body")
    model = build_model(config, body)
    with torch.inference_mode():
        prediction = model.eval()(torch.zeros(1, 3, 224, 224))
    assert prediction.vertices[-1].shape == (1, body.spec.num_vertices, 3)
