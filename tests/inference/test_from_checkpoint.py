"""A predictor from a checkpoint folder needs nothing that training started from."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from metro_ray.bodies import load_body
from metro_ray.config.load import load_config
from metro_ray.inference import Predictor
from metro_ray.training.builders import build_model
from metro_ray.training.checkpoint import save_checkpoint
from metro_ray.training.checkpoint_meta import CheckpointMeta

SETTINGS = {
    "model.mesh": "anny_hand",
    "model.arch": "hrnet-w18-small",
    "model.hidden_feat_dim": (32, 16),
    "model.input_feat_dim": (2051, 32),
    "model.num_hidden_layers": 1,
    "model.upsampling_init": "topology",
    "optim.precision": "bf16",
}


@pytest.fixture(scope="module")
def started_from_a_file(tmp_path_factory):
    """A checkpoint folder of a network whose backbone came from a file that is gone, and it."""
    folder = tmp_path_factory.mktemp("run")
    body = load_body("anny_hand")
    torch.manual_seed(0)
    weights = folder / "imagenet.pth"
    torch.save(
        build_model(load_config("hand", None, SETTINGS), body).backbone.state_dict(), weights
    )
    config = load_config("hand", None, SETTINGS | {"model.backbone_weights": str(weights)})
    model = build_model(config, body)
    meta = CheckpointMeta(config=asdict(config), mesh="anny_hand", epoch=1, step=1)
    optimizer = torch.optim.Adam(model.parameters())
    checkpoint, _ = save_checkpoint(folder / "checkpoints", model, optimizer, meta)
    weights.unlink()
    return checkpoint, model, body


def test_it_predicts_what_the_network_in_memory_predicts(started_from_a_file):
    checkpoint, model, body = started_from_a_file
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    layout = load_config("hand", None, SETTINGS).optim.channels_last
    (expected,) = Predictor(model, body, channels_last=layout).predict([picture])
    (loaded,) = Predictor.from_checkpoint(checkpoint, precision="fp32").predict([picture])
    np.testing.assert_array_equal(loaded.vertices, expected.vertices)
    np.testing.assert_array_equal(loaded.camera, expected.camera)


def test_it_computes_as_it_was_trained_unless_told_otherwise(started_from_a_file):
    checkpoint = started_from_a_file[0]
    assert Predictor.from_checkpoint(checkpoint).precision == "bf16"
    assert Predictor.from_checkpoint(checkpoint, precision="fp32").precision == "fp32"
