"""A training step on a GPU: the same numbers as on a CPU, and every switch of its arithmetic."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.amp.grad_scaler import GradScaler

from metro_ray.bodies import load_body
from metro_ray.config.load import load_config
from metro_ray.training.arithmetic import arithmetic
from metro_ray.training.builders import build_model, loss_weights, prepare_model
from metro_ray.training.context import LocalWorker
from metro_ray.training.progress import max_memory_mib
from metro_ray.training.step import TrainStep, make_optimizer, make_scaler


@pytest.fixture
def batch(tiny_data):
    return next(tiny_data(num_rows=4, batch_size=4).train_batches(0))


@pytest.fixture
def make_step(body, make_config):
    """A step on a device, always from the same weights and without dropout."""

    def make(device, **overrides):
        config = make_config(model__drop_out=0.0, model__attention_dropout=0.0, **overrides)
        torch.manual_seed(0)
        model = build_model(config, body)
        wrapped = prepare_model(model, config, LocalWorker(device))
        return TrainStep(
            model=wrapped,
            body=copy.deepcopy(body).to(device),
            optimizer=make_optimizer(model, 1e-3),
            device=torch.device(device),
            weights=loss_weights(config, body.spec),
            precision=config.optim.precision,
            channels_last=config.optim.channels_last,
            scaler=make_scaler(device, config.optim.precision),
        )

    return make


def test_float32_steps_are_those_of_the_cpu(make_step, make_config, batch, device):
    """Adam makes much of small differences, so later steps may be further apart."""
    there, here = make_step(device), make_step("cpu")
    with arithmetic(make_config().optim):
        for tolerance in (1e-4, 1e-2, 3e-2):
            expected = here.run([batch], lr=1e-4)
            assert there.run([batch], lr=1e-4).total == pytest.approx(expected.total, rel=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_precision_learns(make_step, batch, device, precision, channels_last):
    step = make_step(device, optim__precision=precision, optim__channels_last=channels_last)
    results = [step.run([batch], lr=3e-3) for _ in range(100)]
    applied = [losses.total for losses in results if losses.applied]
    assert len(applied) > 80, "a loss scale settles within a few steps"
    assert applied[-1] < 0.5 * applied[0]


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.03), ("fp16", 0.01)])
def test_short_floats_are_near_float32(make_step, batch, device, precision, tolerance):
    expected = make_step(device).run([batch], lr=1e-4)
    got = make_step(device, optim__precision=precision).run([batch], lr=1e-4)
    assert got.total == pytest.approx(expected.total, rel=tolerance)


def test_fp16_scale_falls_when_a_gradient_is_too_large(make_step, batch, device):
    step = make_step(device, optim__precision="fp16")
    step = replace(step, scaler=GradScaler(device.type, init_scale=2.0**60))
    before = [p.detach().clone() for p in step.model.parameters()]
    assert not step.run([batch], lr=1e-3).applied
    assert all(torch.equal(p, q) for p, q in zip(step.model.parameters(), before, strict=True))
    assert step.scaler.get_scale() < 2.0**60


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_steps_give_the_same_losses(make_step, batch, device, precision):
    eager = make_step(device, optim__precision=precision)
    twin = make_step(device, optim__precision=precision, optim__compile="default")
    exact = 1e-4 if precision == "fp32" else 1e-2
    for tolerance in (exact, 20 * exact):
        expected = eager.run([batch], lr=1e-4)
        assert twin.run([batch], lr=1e-4).total == pytest.approx(expected.total, rel=tolerance)


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_what_the_switch_says(make_config, device, tf32):
    if torch.cuda.get_device_capability(device) < (8, 0):
        pytest.skip("this GPU is older than TF32")
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=draw, dtype=torch.float64) for _ in range(2))
    with arithmetic(make_config(optim__tf32=tf32).optim):
        product = (left.float().to(device) @ right.float().to(device)).double().cpu()
    error = float((product - left @ right).abs().max() / (left @ right).abs().max())
    assert (error > 5e-5) == tf32, error


def test_pinned_batches_are_copied_without_waiting_and_whole(batch, device):
    pinned = batch.pin_memory()
    assert pinned.image.is_pinned()
    assert pinned.pose.is_pinned()
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        room = pinned.to(device)  # of which the copy can take the memory at once
        del room
        torch.cuda._sleep(200_000_000)  # some 0.1 s of a busy GPU before the copy can begin
        there = pinned.to(device, non_blocking=True)
        assert not stream.query(), "the copy was queued, the host did not wait for it"
    stream.synchronize()
    for name in ("image", "pose", "joints_3d", "valid"):
        assert torch.equal(getattr(there, name).cpu(), getattr(batch, name)), name


def test_peak_memory_is_that_of_the_gpu_and_recomputing_lowers_it(device):
    """HRNet, whose activations are most of what a step holds."""
    body = load_body("anny_body").to(device)
    peaks = {}
    for parts in ("none", "all"):
        small = {"model.arch": "hrnet-w18-small", "model.recompute": parts}
        model = build_model(load_config("body", overrides=small), body).to(device)
        images = torch.rand(8, 3, 224, 224, device=device)
        torch.cuda.reset_peak_memory_stats(device)
        before = max_memory_mib(device)
        prediction = model.train()(images)
        prediction.vertices[-1].square().mean().backward()
        peaks[parts] = max_memory_mib(device) - before
        del model, prediction
        torch.cuda.empty_cache()
    assert 0 < peaks["all"] < 0.8 * peaks["none"]
