"""Training steps against METRO's own: losses, gradients, three Adam updates, learning rate.

Tolerances are RECIPE.md's. Gradients of the backbone are compared loosely, because BatchNorm over
two images is badly conditioned; the trajectory at lr 1e-4 is chaotic in the original too, so only
its second pass is compared.
"""

import re

import numpy as np
import pytest
import recipe
import torch

from metro_ray.data.sample import batch_from_arrays, blank_sample, stack_samples
from metro_ray.losses import LossWeights, build_targets
from metro_ray.models.metro_format import to_metro
from metro_ray.training.schedule import learning_rate
from metro_ray.training.step import StepInput, TrainStep, make_optimizer

TOTAL, TERM = 5e-5, 5e-4
LATER_TOTAL, LATER_TERM = 5e-3, 2e-2
BACKBONE_GRADIENT, GRADIENT = 1e-2, 5e-4
CHANGE, CAMERA_CHANGE = 2e-2, 5e-2
STATISTICS = 1e-5
PARAMETERS = 1e-6
CHAOTIC_PASS_2 = 5e-2
_DEAD = re.compile(r"trans_encoder\.\d+\.bert\.(embeddings|pooler)\.|backbone\.classifier\.")
_RUNNING = ("running_mean", "running_var", "num_batches_tracked")


def test_learning_rate_of_every_iteration(model_goldens):
    for run in model_goldens.json("g10_learning_rate.json"):
        rates = [
            learning_rate(
                step,
                base_lr=run["lr"],
                epochs=run["num_train_epochs"],
                steps_per_epoch=run["iters_per_epoch"],
            )
            for step in range(1, run["max_iter"] + 1)
        ]
        assert len(rates) == len(run["lr_per_iteration"])
        np.testing.assert_allclose(rates, run["lr_per_iteration"], rtol=1e-12, atol=0)


class Inputs:
    """The recipe's training batch of two images, as a step takes it."""

    def __init__(self, network, prefix):
        kind, spec = network.kind, network.body.spec
        rows = {"body": recipe.body_batch, "hand": recipe.hand_batch}[kind](prefix)
        labels = stack_samples([blank_sample(spec, i, image_size=1) for i in range(2)])
        labels |= {
            "pose": rows["pose"],
            "betas": rows["betas"],
            "keypoints_2d": rows["joints_2d"],
            "has_mesh": rows["has_smpl"] == 1,
            "valid": np.ones(2, bool),
        }
        if kind == "body":
            joints = rows["joints_3d"].copy()
            joints[..., :3] -= joints[:, spec.root_label_joint, None, :3]
            labels |= {
                "joints_3d": joints,
                "has_joints_3d": rows["has_3d_joints"] == 1,
                "has_keypoints_2d": rows["has_2d_joints"] == 1,
            }
        self.images = torch.from_numpy(rows["images"])
        masks = np.concatenate([rows["mjm_mask"], rows["mvm_mask"]], axis=1)
        self.token_mask = torch.from_numpy(masks)
        self.targets = build_targets(batch_from_arrays(labels), network.body)


@pytest.fixture
def inputs(network, model_goldens):
    """And the network's weights put back when the test has trained them."""
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    yield Inputs(network, model_goldens.prefix)
    network.model.load_state_dict(before)
    network.model.zero_grad(set_to_none=True)
    network.model.eval()


def make_step(network, run):
    weights = run["weights"]
    levels = [weights[f"vloss_w_{level}"] for level in ("sub2", "sub", "full")
              if f"vloss_w_{level}" in weights]  # fmt: skip
    return TrainStep(
        model=network.model,
        body=network.body,
        optimizer=make_optimizer(network.model, run["lr"]),
        device=torch.device("cpu"),
        weights=LossWeights(
            joints=weights["joints_loss_weight"],
            vertices=weights["vertices_loss_weight"],
            levels=tuple(levels),
        ),
    )


def take_step(step, inputs, lr, number):
    losses = step.update([StepInput(inputs.images, inputs.token_mask, inputs.targets)], lr=lr)
    assert losses.applied, number
    return losses


def assert_losses(losses, golden, spec, total, term):
    """Golden names: `vertices_sub2` is the coarsest level, `joints_2d` what we call keypoints."""
    levels = ("full", "sub", "sub2")
    terms = {
        f"vertices_{name}": losses.terms[f"vertices_{count}"]
        for name, count in zip(levels, reversed(spec.vertex_levels), strict=False)
    }
    for name in ("", "_from_mesh"):
        terms[f"joints_3d{name}"] = losses.terms[f"joints_3d{name}"]
        terms[f"joints_2d{name}"] = losses.terms[f"keypoints_2d{name}"]
    assert terms.keys() == golden["terms"].keys()
    for name, value in golden["terms"].items():
        assert terms[name] == pytest.approx(value, rel=term), name
    assert losses.total == pytest.approx(golden["loss"], rel=total)
    assert losses.keypoints_2d == pytest.approx(golden["loss_2d_joints"], rel=term)
    assert losses.joints_3d == pytest.approx(golden["loss_3d_joints"], rel=term)
    assert losses.vertices == pytest.approx(golden["loss_vertices"], rel=term)


def metro_parameters(network, values):
    """Tensors of our parameters under METRO's names, without what METRO never trains."""
    state = {**network.model.state_dict(), **values}
    return {
        key: value.double()
        for key, value in to_metro(state).items()
        if not _DEAD.match(key) and not key.endswith(_RUNNING)
    }


def of_module(tensors, module):
    chosen = [v for k, v in tensors.items() if module == "whole" or k.startswith(f"{module}.")]
    assert chosen, module
    return chosen


def dead_squares(network, model_goldens):
    """Sum of squares of what METRO counts but never trains, by module of the norms."""
    manifest = model_goldens.shared_json("manifest.json")[network.name]
    num_tokens, squares = network.body.spec.num_tokens, {}
    for key, shape, _, kind in manifest["state_dict"]:
        table = key.endswith("bert.position_embeddings.weight")
        if kind == "parameter" and (table or _DEAD.match(key)):
            values = recipe.weight(key, tuple(shape), model_goldens.prefix).astype(np.float64)
            module = "backbone" if key.startswith("backbone.") else ".".join(key.split(".")[:2])
            dead = values[num_tokens:] if table else values
            squares[module] = squares.get(module, 0.0) + float(np.square(dead).sum())
    return squares


def norm(tensors, module):
    return sum(float(value.square().sum()) for value in of_module(tensors, module)) ** 0.5


def test_three_small_steps(network, inputs, model_goldens):
    golden = model_goldens.json("g5_g6_training.json")[network.name]["lr_1e-6"]
    spec, step = network.body.spec, make_step(network, golden)
    before = metro_parameters(
        network, {k: v.detach().clone() for k, v in network.model.named_parameters()}
    )
    for number, expected in enumerate(golden["steps"], start=1):
        losses = take_step(step, inputs, golden["lr"], number)
        first = number == 1
        assert_losses(
            losses,
            expected,
            spec,
            TOTAL if first else LATER_TOTAL,
            TERM if first else LATER_TERM,
        )
        if first:
            assert_gradients(network, golden["grad_norm_step_1"])
        if number == 3:
            dead = dead_squares(network, model_goldens)
            assert_updated(network, before, golden["after_three_updates"], dead)


def assert_gradients(network, golden):
    gradients = metro_parameters(network, {k: v.grad for k, v in network.model.named_parameters()})
    for module, expected in golden.items():
        loose = module == "whole" or module.startswith("backbone")
        relative = BACKBONE_GRADIENT if loose else GRADIENT
        assert norm(gradients, module) == pytest.approx(expected, rel=relative), module


def assert_updated(network, before, golden, dead):
    after = metro_parameters(network, {k: v.detach() for k, v in network.model.named_parameters()})
    changes = {key: (after[key] - before[key]).abs() for key in after}
    for module, expected in golden["sum_abs_change"].items():
        change = sum(float(value.sum()) for value in of_module(changes, module))
        relative = CAMERA_CHANGE if module == "cam_param_fc" else CHANGE
        assert change == pytest.approx(expected, rel=relative), module
    for module, expected in golden["parameter_norm"].items():
        squares = norm(after, module) ** 2 + dead.get(module, 0.0)
        assert squares**0.5 == pytest.approx(expected, rel=PARAMETERS), module
    buffers = dict(network.model.named_buffers())
    means = [v.double() for k, v in buffers.items() if k.endswith("running_mean")]
    variances = [v.double() for k, v in buffers.items() if k.endswith("running_var")]
    counts = {int(v) for k, v in buffers.items() if k.endswith("num_batches_tracked")}
    statistics = golden["bn"]
    assert sum(float(v.abs().sum()) for v in means) == pytest.approx(
        statistics["running_mean_sum_abs"], rel=STATISTICS
    )
    assert sum(float(v.sum()) for v in variances) == pytest.approx(
        statistics["running_var_sum"], rel=STATISTICS
    )
    assert sorted(counts) == statistics["num_batches_tracked"]


@pytest.mark.slow
def test_second_pass_at_the_usual_rate(network, inputs, model_goldens):
    golden = model_goldens.json("g5_g6_training.json")[network.name]["lr_1e-4"]
    step = make_step(network, golden)
    for number, expected in enumerate(golden["steps"][:2], start=1):
        losses = take_step(step, inputs, golden["lr"], number)
        relative = TOTAL if number == 1 else CHAOTIC_PASS_2
        assert losses.total == pytest.approx(expected["loss"], rel=relative)
