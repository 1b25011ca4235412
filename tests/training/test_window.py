"""Accumulated batches against one batch of all their rows."""

import pytest
import torch
from torch.testing import assert_close
from toys import take

from metro_ray.losses import build_targets
from metro_ray.training.builders import build_model, loss_weights
from metro_ray.training.step import TrainStep, make_optimizer
from metro_ray.training.window import label_shares


@pytest.fixture
def rows(tiny_data):
    """Six rows that carry different labels, one of them none."""
    batch = next(tiny_data(num_rows=6, batch_size=6).train_batches(0))
    batch = batch._replace(
        has_mesh=torch.tensor([True, False, True, True, False, False]),
        has_joints_3d=torch.tensor([True, True, False, False, True, False]),
        valid=torch.tensor([True, True, True, True, True, False]),
        keys=tuple("abcdef"),
    )
    batch.keypoints_2d[1, :, 2] = 0
    return batch


@pytest.fixture
def make_step(body, make_config):
    def make():
        torch.manual_seed(0)
        config = make_config(
            model__drop_out=0.0, model__attention_dropout=0.0, model__batch_norm="frozen"
        )
        model = build_model(config, body)
        return TrainStep(
            model=model,
            body=body,
            optimizer=make_optimizer(model, 1e-3),
            device=torch.device("cpu"),
            weights=loss_weights(config, body.spec),
        )

    return make


def gradients(step):
    return {name: p.grad for name, p in step.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("cuts", [[3, 3], [4, 2], [1, 2, 3], [5, 1]], ids=str)
def test_a_window_is_one_batch_of_all_its_rows(make_step, rows, cuts):
    parts = [take(rows, part.tolist()) for part in torch.arange(6).split(cuts)]
    whole, window = make_step(), make_step()
    expected = whole.run([rows], lr=1e-4)
    losses = window.run(parts, lr=1e-4)
    for name, value in expected._asdict().items():
        assert getattr(losses, name) == pytest.approx(value, rel=1e-5), name
    theirs = gradients(window)
    for name, gradient in gradients(whole).items():
        assert_close(theirs[name], gradient, rtol=1e-4, atol=1e-6 * expected.grad_norm)


def test_the_mean_of_the_batches_means_would_be_another_loss(make_step, rows):
    """What the shares are for: the labels are spread unevenly."""
    expected = make_step().run([rows], lr=1e-4).total
    means = [make_step().run([take(rows, part)], lr=1e-4).total for part in ([0], [1, 2, 3, 4, 5])]
    assert sum(means) / 2 != pytest.approx(expected, rel=0.02)


def test_shares_of_each_kind_add_up_to_one(rows, body):
    parts = [take(rows, [0, 1]), take(rows, [2, 3, 4]), take(rows, [5])]
    shares = label_shares([build_targets(part, body) for part in parts])
    assert torch.stack([share.vertices for share in shares]).tolist() == pytest.approx(
        [1 / 3, 2 / 3, 0]
    )
    assert torch.stack([share.keypoints_2d for share in shares]).tolist() == pytest.approx(
        [0.4, 0.6, 0]
    )
    unlabelled = label_shares([build_targets(parts[2], body)])
    assert [float(value) for value in unlabelled[0]] == [0, 0, 0]
