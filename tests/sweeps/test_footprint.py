"""What a network costs, told without making it."""

from dataclasses import replace

import pytest

from metro_ray.bodies.spec import get_spec
from metro_ray.config.load import load_config
from metro_ray.errors import ConfigError
from metro_ray.sweeps.footprint import Footprints


@pytest.fixture(scope="module")
def footprints():
    return Footprints(get_spec("anny_body"))


def demo(**changes):
    return load_config("body", "demo", changes)


def test_parameters_are_those_of_the_network(footprints):
    import torch

    from metro_ray.bodies import load_body
    from metro_ray.training.builders import build_model

    config = demo(**{"model.hidden_feat_dim": [96, 64, 32], "model.num_hidden_layers": 2})
    with torch.device("cpu"):
        model = build_model(config, load_body("anny_body"))
    assert footprints.of(config).parameters == sum(p.numel() for p in model.parameters())


def test_memory_grows_with_the_batch_and_shrinks_with_bf16(footprints):
    small = footprints.of(demo(**{"optim.per_gpu_batch_size": 2, "optim.precision": "fp32"}))
    large = footprints.of(demo(**{"optim.per_gpu_batch_size": 8, "optim.precision": "fp32"}))
    half = footprints.of(demo(**{"optim.per_gpu_batch_size": 8}))
    own = 16 * small.parameters
    assert (large.step_bytes - own) / (small.step_bytes - own) == pytest.approx(4, rel=0.1)
    assert own < half.step_bytes < large.step_bytes


def test_the_full_network_takes_what_was_measured(footprints):
    """benchmarks/results/train_step.json: peaks of 5.39 GiB (float32) and 4.67 GiB (bf16)."""
    config = load_config("body", "body", {"optim.per_gpu_batch_size": 4})
    full = footprints.of(config)
    assert 4.6 < full.step_bytes / 2**30 < 5.4
    bf16 = footprints.of(replace(config, optim=replace(config.optim, precision="bf16")))
    assert 4.2 < bf16.step_bytes / 2**30 < 4.7


def test_recomputed_parts_keep_less(footprints):
    plain = footprints.of(demo())
    assert footprints.of(demo(**{"model.recompute": "all"})).step_bytes < plain.step_bytes


def test_what_cannot_be_built_is_refused(footprints):
    with pytest.raises(ConfigError, match="hrnet-w99"):
        footprints.of(demo(**{"model.arch": "hrnet-w99"}))
