"""Networks that are small enough to be built in every test."""

from dataclasses import replace

import pytest
import torch

from metro_ray.bodies.spec import get_spec
from metro_ray.models import build_metro

SMALL = {
    "arch": "hrnet-w18-small",
    "input_feat_dim": (2051, 32, 16),
    "hidden_feat_dim": (16, 8, 8),
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


@pytest.fixture(scope="session")
def make_metro():
    """Small METRO of a mesh, by keyword arguments of `build_metro`; the same for the same seed."""

    def make(mesh="smpl", *, seed=0, spec_changes=None, **changes):
        torch.manual_seed(seed)
        spec = replace(get_spec(mesh), **(spec_changes or {}))
        return build_metro(spec, torch.rand(spec.num_tokens, 3) - 0.5, **{**SMALL, **changes})

    return make
