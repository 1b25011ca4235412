import copy
from dataclasses import replace

import pytest
import torch

from metro_ray.data.sample import without_labels
from metro_ray.training.builders import build_model, loss_weights
from metro_ray.training.step import TrainStep, freeze_parts, make_optimizer, seed_step


@pytest.fixture
def make_step(body, make_config):
    def make(lr=1e-3, **overrides):
        torch.manual_seed(0)
        config = make_config(model__drop_out=0.0, model__attention_dropout=0.0, **overrides)
        model = build_model(config, body)
        return TrainStep(
            model=model,
            body=body,
            optimizer=make_optimizer(model, lr),
            device=torch.device("cpu"),
            weights=loss_weights(config, body.spec),
            precision=config.optim.precision,
            channels_last=config.optim.channels_last,
        )

    return make


@pytest.fixture
def batch(tiny_data):
    return next(tiny_data(num_rows=4, batch_size=4).train_batches(0))


def test_overfits_a_handful_of_rows(make_step, batch):
    step = make_step()
    losses = [step.run([batch], lr=3e-3).total for i in range(1, 101)]
    assert losses[-1] < 0.5 * losses[0]


def test_total_is_the_weighted_sum_of_its_parts(make_step, batch):
    losses = make_step().run([batch], lr=1e-3)
    assert losses.total == pytest.approx(
        1000 * losses.joints_3d + 100 * (losses.vertices + losses.keypoints_2d), rel=1e-5
    )
    assert set(losses.terms) >= {"joints_3d", "joints_3d_from_mesh", "vertices_24"}


def test_learning_rate_is_that_of_the_call(make_step, batch):
    step = make_step()
    before = [p.detach().clone() for p in step.model.parameters()]
    step.run([batch], lr=1e-5)
    moved = max((p - q).abs().max() for p, q in zip(step.model.parameters(), before, strict=True))
    assert float(moved.detach()) == pytest.approx(1e-5, rel=0.2), "Adam's first step is the rate"


@pytest.mark.parametrize("column", ["keypoints_2d", "pose"])
def test_a_step_that_is_not_finite_changes_nothing(make_step, batch, column):
    """Neither weights nor Adam's state nor BatchNorm's statistics; the next step counts again."""
    step = make_step()
    step.run([batch], lr=1e-3)
    before = {key: value.clone() for key, value in step.model.state_dict().items()}
    moments = copy.deepcopy(step.optimizer.state_dict()["state"])
    value = getattr(batch, column)[1].clone()
    getattr(batch, column)[1] = float("nan")
    losses = step.run([batch], lr=1e-3)
    assert not losses.applied
    assert not losses.is_finite
    for key, now in step.model.state_dict().items():
        assert torch.equal(now, before[key]), key
    for key, state in step.optimizer.state_dict()["state"].items():
        assert all(torch.equal(now, moments[key][name]) for name, now in state.items())
    getattr(batch, column)[1] = value
    assert step.run([batch], lr=1e-3).applied
    assert not torch.equal(step.model.camera.output.weight, before["camera.output.weight"])


@pytest.mark.parametrize("setting", [{"optim__precision": "bf16"}, {"optim__channels_last": True}])
def test_other_arithmetic_agrees_with_float32(make_step, batch, setting):
    expected = make_step().run([batch], lr=1e-3).total
    rel = 0.1 if "optim__precision" in setting else 1e-5
    assert make_step(**setting).run([batch], lr=1e-3).total == pytest.approx(expected, rel=rel)


def test_unlabelled_row_leaves_every_gradient_alive(make_step, body):
    """A batch of fillers only, as a rank may get at the end of an epoch."""
    from metro_ray.data.sample import blank_sample, collate

    step = make_step()
    losses = step.run([collate([without_labels(blank_sample(body.spec, 0))] * 2)], lr=1e-3)
    assert losses.total == 0.0
    assert all(p.grad is not None for p in step.model.parameters())


def test_seed_depends_on_seed_step_and_rank():
    def draw(*key):
        seed_step(*key)
        return torch.rand(3).tolist()

    draws = [draw(1, 1, 0), draw(2, 1, 0), draw(1, 2, 0), draw(1, 1, 1)]
    assert draw(1, 1, 0) == draws[0]
    assert len({tuple(d) for d in draws}) == 4


def test_optimizer_is_metros(make_step):
    optimizer = make_step().optimizer
    group = optimizer.param_groups[0]
    assert type(optimizer) is torch.optim.Adam
    assert len(optimizer.param_groups) == 1
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-8, 0)


def test_parts_learn_at_their_own_rate_or_not_at_all(make_step, batch):
    step = make_step()
    factors = {"backbone": 0.1, "upsampler": 0.0}
    freeze_parts(step.model, factors)
    step = replace(step, optimizer=make_optimizer(step.model, 1e-3, lr_factors=factors))
    before = {name: p.detach().clone() for name, p in step.model.named_parameters()}
    step.run([batch], lr=1e-4)
    moved = {"backbone": 0.0, "upsampler": 0.0, "cascade": 0.0}
    for name, parameter in step.model.named_parameters():
        part = name.split(".")[0]
        change = float((parameter.detach() - before[name]).abs().max())
        moved[part] = max(moved.get(part, 0.0), change)
    assert moved["cascade"] == pytest.approx(1e-4, rel=0.2), "Adam's first step is the rate"
    assert moved["backbone"] == pytest.approx(1e-5, rel=0.2)
    assert moved["upsampler"] == 0.0
