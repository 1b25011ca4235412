"""What each switch of the arithmetic does to a step, and when it is refused."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from metro_ray.errors import ConfigError, ResourceError
from metro_ray.models.backbones import BACKBONES, build_backbone
from metro_ray.training.arithmetic import arithmetic, compiled
from metro_ray.training.builders import build_model, loss_weights
from metro_ray.training.context import LocalWorker
from metro_ray.training.loop import fit
from metro_ray.training.step import TrainStep, make_optimizer, make_scaler
from metro_ray.training.trainer import Trainer


@pytest.fixture
def make_step(body, make_config):
    def make(**overrides):
        torch.manual_seed(0)
        config = make_config(model__drop_out=0.0, model__attention_dropout=0.0, **overrides)
        model = build_model(config, body)
        return TrainStep(
            model=model,
            body=body,
            optimizer=make_optimizer(model, 1e-3),
            device=torch.device("cpu"),
            weights=loss_weights(config, body.spec),
            precision=config.optim.precision,
            clip_grad_norm=config.optim.clip_grad_norm,
            scaler=make_scaler("cpu", config.optim.precision),
        )

    return make


@pytest.fixture
def batch(tiny_data):
    return next(tiny_data(num_rows=4, batch_size=4).train_batches(0))


@pytest.fixture
def make_trainer(body, tiny_data, make_config):
    def make(worker=None, **overrides):
        config = make_config(**overrides)
        torch.manual_seed(0)
        model = build_model(config, body)
        return Trainer(config, worker or LocalWorker("cpu"), tiny_data(), body, model, "new run")

    return make


def gradient_norm(step):
    squares = [p.grad.square().sum() for p in step.model.parameters() if p.grad is not None]
    return math.sqrt(sum(map(float, squares)))


def test_long_gradients_are_shortened_and_logged_as_they_were(make_step, batch):
    free = make_step()
    norm = free.run([batch], lr=1e-3).grad_norm
    assert gradient_norm(free) == pytest.approx(norm, rel=1e-5)
    clipped = make_step(optim__clip_grad_norm=norm / 3)
    assert clipped.run([batch], lr=1e-3).grad_norm == pytest.approx(norm, rel=1e-6)
    assert gradient_norm(clipped) == pytest.approx(norm / 3, rel=1e-4)
    short = make_step(optim__clip_grad_norm=norm * 3)
    short.run([batch], lr=1e-3)
    assert gradient_norm(short) == pytest.approx(norm, rel=1e-6)


def test_fp16_learns_with_a_loss_scale_that_adapts(make_step, batch):
    """On the CPU too, where it is correct and slow."""
    expected = make_step().run([batch], lr=1e-3)
    step = make_step(optim__precision="fp16")
    first = step.run([batch], lr=1e-3)
    while not first.applied:  # the scale starts too large
        first = step.run([batch], lr=1e-3)
    assert first.total == pytest.approx(expected.total, rel=0.02)
    assert first.grad_norm == pytest.approx(expected.grad_norm, rel=0.05), "it is divided out again"
    step.scaler.update(2.0**40)
    before = {name: p.detach().clone() for name, p in step.model.named_parameters()}
    losses = step.run([batch], lr=1e-3)
    assert losses.is_finite
    assert not losses.applied, "the gradient overflows"
    assert step.scaler.get_scale() == 2.0**39
    assert all(torch.equal(p, before[name]) for name, p in step.model.named_parameters())


def test_frozen_batch_norm_stays_as_it_is(make_trainer, batch):
    trainer = make_trainer(model__batch_norm="frozen")
    norm = trainer.state.model.backbone[2]
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    conv = trainer.state.model.backbone[1].weight.detach().clone()
    trainer._train_step.run([batch], lr=1e-2)
    assert trainer.state.model.training
    assert not norm.training
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not torch.equal(trainer.state.model.backbone[1].weight, conv)
    local = make_trainer()
    local._train_step.run([batch], lr=1e-2)
    moved = local.state.model.backbone[2].state_dict()
    assert all(not torch.equal(moved[name], before[name]) for name in before)


class TwoRanks(LocalWorker):
    world_size = property(lambda self: 2)


def test_synchronised_batch_norm_keeps_the_keys_and_needs_gpus(make_trainer):
    plain, synchronised = make_trainer(), make_trainer(model__batch_norm="sync")
    kinds = [type(norm) for norm in synchronised.state.model.batch_norms()]
    assert kinds == [nn.SyncBatchNorm]
    assert synchronised.state.model.state_dict().keys() == plain.state.model.state_dict().keys()
    with pytest.raises(ConfigError, match=r"batch_norm sync needs GPUs.*2 ranks.*local"):
        make_trainer(TwoRanks("cpu"), model__batch_norm="sync")


class SavedBytes:
    """Counts what autograd keeps for the backward pass."""

    def __init__(self):
        self.total = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda x: x)

    def _keep(self, tensor):
        if not isinstance(tensor, nn.Parameter):  # which are there anyway
            self.total += tensor.numel() * tensor.element_size()
        return tensor

    def __enter__(self):
        self._hooks.__enter__()
        return self

    def __exit__(self, *problem):
        self._hooks.__exit__(*problem)


@pytest.mark.parametrize("arch", ["hrnet-w18-small", "resnet50"])
def test_recomputed_activations_change_nothing_but_memory(arch):
    kept, outcomes = {}, {}
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for again in (False, True):
        torch.manual_seed(0)
        backbone = build_backbone(arch)
        backbone.recompute = again
        with SavedBytes() as saved:
            features = backbone.train()(images)
        kept[again] = saved.total
        features.square().mean().backward()
        gradients = {name: p.grad for name, p in backbone.named_parameters()}
        outcomes[again] = (features.detach(), gradients, dict(backbone.named_buffers()))
    assert kept[True] < 0.7 * kept[False]
    assert_close(outcomes[True], outcomes[False], rtol=1e-5, atol=1e-6)


def test_recomputed_encoders_draw_the_same_dropout(body, make_config, batch):
    outcomes = []
    for parts in ("none", "encoders"):
        torch.manual_seed(0)
        model = build_model(make_config(model__recompute=parts, model__drop_out=0.3), body).train()
        torch.manual_seed(1)
        prediction = model(batch.image / 255.0, batch.token_mask)
        prediction.vertices[-1].square().sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        outcomes.append((prediction.vertices[-1].detach(), gradients))
    assert_close(*outcomes)


def test_recompute_refuses_a_backbone_that_cannot(body, make_config):
    with pytest.raises(ConfigError, match=r"model\.recompute all is for the backbones hrnet"):
        build_model(make_config(model__recompute="all"), body)


def test_shortcut_start_refuses_a_backbone_without_blocks(body, make_config):
    with pytest.raises(ConfigError, match=r"shortcut changes nothing in tiny.*random"):
        build_model(make_config(model__backbone_init="shortcut"), body)
    assert "tiny" in BACKBONES


def test_compile_without_a_compiler_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ResourceError, match=r"C\+\+ compiler.*no-such-compiler.*optim\.compile"):
        compiled(nn.Linear(1, 1), "default", torch.device("cpu"))
    model = nn.Linear(1, 1)
    assert compiled(model, "none", torch.device("cpu")) is model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_compiled_training_gives_the_same_losses(make_step, batch):
    eager, twin = make_step(), make_step()
    twin = replace(twin, model=compiled(twin.model, "default", torch.device("cpu")))
    for tolerance in (1e-5, 1e-3):  # Adam makes much of small differences
        expected = eager.run([batch], lr=1e-4)
        assert twin.run([batch], lr=1e-4).total == pytest.approx(expected.total, rel=tolerance)
    counters = [
        model.state_dict()["backbone.2.num_batches_tracked"]
        for model in (twin.model._orig_mod, eager.model)
    ]
    assert [int(count) for count in counters] == [2, 2]


def test_process_wide_switches_last_as_long_as_the_run(body, tiny_data, make_config):
    def state():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cuda.matmul.fp32_precision,
            torch.backends.cudnn.conv.fp32_precision,
        )

    before, seen = state(), []

    def look(batch, epoch, index):
        seen.append(state())
        return batch

    config = make_config(optim__deterministic=True, optim__tf32=True)
    fit(config, LocalWorker("cpu"), tiny_data(spoil=look), body=body)
    assert set(seen) == {(True, "tf32", "tf32")}
    assert state() == before
    with arithmetic(make_config().optim):
        assert state()[1:] == ("ieee", "ieee"), "float32 means float32 unless asked otherwise"
