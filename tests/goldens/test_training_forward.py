"""The first training forward against METRO's own: batch statistics, masks, no dropout."""

import numpy as np
import pytest
import recipe
import torch

# RECIPE.md: BatchNorm over two images is ten times worse conditioned than evaluation mode.
RELATIVE = {"body": 5e-4, "hand": 1e-4}


@pytest.fixture
def training_network(network):
    """In training mode; BatchNorm's statistics are put back afterwards."""
    before = {name: value.clone() for name, value in network.model.named_buffers()}
    network.model.train()
    yield network
    network.model.eval()
    for name, value in network.model.named_buffers():
        value.copy_(before[name])


@torch.no_grad()
def test_first_training_forward(training_network, model_goldens):
    kind, spec = training_network.kind, training_network.body.spec
    number = {"body": "g5", "hand": "g6"}[kind]
    name = training_network.name.removeprefix(f"{kind}-").replace("-", "_")
    golden = model_goldens.npz(f"{number}_train_{kind}_{name}.npz")
    prefix, batch = model_goldens.prefix, len(golden["cam"])
    images = torch.from_numpy(recipe.images(prefix, f"{kind}/train", batch))
    mask = np.concatenate(
        [
            recipe.mask(prefix, kind, "mjm", batch, spec.num_joints),
            recipe.mask(prefix, kind, "mvm", batch, spec.num_coarse),
        ],
        axis=1,
    )
    prediction = training_network.model(images, torch.from_numpy(mask))

    relative = RELATIVE[kind]
    levels = ("sub2", "sub", "full") if kind == "body" else ("sub", "full")
    outputs = dict(zip(levels, prediction.vertices, strict=True))
    outputs |= {"cam": prediction.camera, "joints": prediction.joints}
    for key, value in outputs.items():
        if key in golden:
            model_goldens.assert_close(value, golden[key], relative, key)
    for key, (mean, std, largest, total) in zip(
        golden["stats_names"], golden["stats"], strict=True
    ):
        values = outputs[str(key)].double()
        assert abs(values.mean() - mean) <= relative * largest, key
        assert abs(values.std(unbiased=False) - std) <= relative * std, key
        assert abs(values.abs().max() - largest) <= relative * largest, key
        assert abs(values.sum() - total) <= relative * largest * values.numel(), key
