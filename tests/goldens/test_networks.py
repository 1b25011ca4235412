"""Forward passes in evaluation mode against METRO's own, float32.

Tolerances are relative to the largest value of an array. RECIPE.md suggests 1e-5 for blocks, 2e-5
for joints and vertices, 1e-4 for the camera and attention; the measured differences on the public
set are 8e-7, 3e-6, 3e-5 and 5e-6, so all but the camera's are halved.
"""

import numpy as np
import pytest
import recipe
import torch

from metro_ray.geometry.cameras import project

BLOCKS = 5e-6
VERTICES = 1e-5
CAMERA = 1e-4
ATTENTION = 5e-5


def token_mask(prefix, kind, batch, num_joints, num_coarse):
    masks = [
        recipe.mask(prefix, kind, "mjm", batch, num_joints),
        recipe.mask(prefix, kind, "mvm", batch, num_coarse),
    ]
    return torch.from_numpy(np.concatenate(masks, axis=1))


def images(prefix, who, batch):
    return torch.from_numpy(recipe.images(prefix, who, batch))


def stats(tensor):
    """Mean, population standard deviation and largest magnitude, float64 (the sum is the mean's)."""
    values = tensor.detach().double()
    return np.array([values.mean(), values.std(unbiased=False), values.abs().max()])


def assert_stats(actual, expected, relative, what):
    """Mean against the largest value, the two others each against themselves."""
    scale = np.array([expected[2], expected[1], expected[2]])
    error = np.abs(actual - expected[:3]) / scale
    assert (error <= relative).all(), f"{what}: mean, std, largest off by {error}"


class Recorder:
    """Statistics and samples of submodules' outputs, taken before anything runs in place."""

    def __init__(self, root, names, sample=None):
        self.stats, self.samples, self._hooks = {}, {}, []
        for label, name in names.items():
            hook = self._hook(label, sample)
            self._hooks.append(root.get_submodule(name).register_forward_hook(hook))

    def _hook(self, label, sample):
        def record(module, args, output):
            first = output[0] if isinstance(output, tuple) else output
            several = first if isinstance(first, list) else [first]
            for index, tensor in enumerate(several):
                key = f"{label}/{index}" if isinstance(first, list) else label
                self.stats[key] = stats(tensor)
                if sample is not None:
                    self.samples[key] = sample(tensor).clone().numpy()

        return record

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()


@pytest.fixture(scope="module")
def golden(network, model_goldens):
    number = {"body": "g4", "hand": "g6"}[network.kind]
    return model_goldens.npz(f"{number}_{network.name.replace('-', '_')}.npz")


@pytest.fixture(scope="module")
def batch(network, golden, model_goldens):
    return images(model_goldens.prefix, network.kind, len(golden["cam"]))


@torch.inference_mode()
def test_forward(network, golden, batch, model_goldens):
    prediction = network.model(batch)
    full = prediction.vertices[-1]
    joints_from_mesh = network.body.joints_from_mesh(full)
    levels = ("sub2", "sub", "full") if network.kind == "body" else ("sub", "full")
    close = model_goldens.assert_close
    for name, vertices in zip(levels, prediction.vertices, strict=True):
        close(vertices, golden[name], VERTICES, name)
    close(prediction.joints, golden["joints"], VERTICES, "joints")
    close(joints_from_mesh, golden["joints_from_mesh"], VERTICES, "joints_from_mesh")
    close(prediction.camera, golden["cam"], CAMERA, "cam")
    for name, joints in (
        ("joints_2d", prediction.joints),
        ("joints_2d_from_mesh", joints_from_mesh),
    ):
        close(project(joints, prediction.camera), golden[name], CAMERA, name)
    if network.kind == "body":
        root = network.body.root_from_mesh(full)[:, 0]
        close(root, golden["pelvis_from_mesh"], VERTICES, "pelvis_from_mesh")
    else:
        pooled = network.model.image_tokens(network.model.backbone(batch))[:, 0]
        close(pooled, golden["backbone"], BLOCKS, "backbone")


@torch.inference_mode()
def test_one_image_gives_a_camera_with_a_batch_dimension(network, golden, batch, model_goldens):
    """METRO squeezes it to (3,), the rest is equal (quirk 26)."""
    prediction = network.model(batch[:1])
    assert prediction.camera.shape == (1, 3)
    model_goldens.assert_close(prediction.camera[0], golden["batch1/cam"], CAMERA, "cam")
    if "batch1/joints" in golden:
        model_goldens.assert_close(prediction.joints, golden["batch1/joints"], VERTICES, "joints")


@torch.inference_mode()
def test_masked_tokens(network, golden, batch, model_goldens):
    spec = network.body.spec
    mask = token_mask(
        model_goldens.prefix, network.kind, len(batch), spec.num_joints, spec.num_coarse
    )
    prediction = network.model(batch, mask)
    coarse = "sub2" if network.kind == "body" else "sub"
    close = model_goldens.assert_close
    close(prediction.camera, golden["masked/cam"], CAMERA, "cam")
    close(prediction.joints, golden["masked/joints"], VERTICES, "joints")
    close(prediction.vertices[0], golden[f"masked/{coarse}"], VERTICES, coarse)


@torch.inference_mode()
def test_attention_and_hidden_states(network, golden, batch, model_goldens):
    prediction = network.model(batch[:1], return_attention=True)
    assert len(prediction.attentions) == 4
    assert len(prediction.hidden_states) == 5
    close = model_goldens.assert_close
    queries = prediction.attentions[-1][:, :, : network.body.spec.num_joints]
    close(queries, golden["attention/last_layer_joint_queries"], ATTENTION, "attention")
    close(prediction.joints, golden["attention/joints"], VERTICES, "joints")
    for name, tensors in (
        ("stats", prediction.attentions),
        ("hidden_stats", prediction.hidden_states),
    ):
        if f"attention/{name}" in golden:
            for tensor, row in zip(tensors, golden[f"attention/{name}"], strict=True):
                assert_stats(stats(tensor), row, ATTENTION, name)


@pytest.mark.parametrize(
    "network",
    ["body-hrnet-w40", pytest.param("body-hrnet-w64", marks=pytest.mark.slow)],
    indirect=True,
)
@torch.inference_mode()
def test_hrnet_stages(network, model_goldens):
    """The hand's backbone has the body's weights."""
    golden = model_goldens.npz(f"g3_{network.arch.replace('-', '_')}.npz")
    names = dict.fromkeys(label.split("/")[0] for label in golden["stats_names"])
    backbone = network.model.backbone
    with Recorder(backbone, {name: name for name in names}) as recorder:
        features = backbone(images(model_goldens.prefix, "backbone", len(golden["features"])))
    model_goldens.assert_close(features, golden["features"], BLOCKS, "features")
    model_goldens.assert_close(features.mean(dim=(2, 3)), golden["pooled"], BLOCKS, "pooled")
    for label, row in zip(golden["stats_names"], golden["stats"], strict=True):
        assert_stats(recorder.stats[str(label)], row, BLOCKS, label)


@pytest.mark.parametrize("network", ["body-hrnet-w40"], indirect=True)
@torch.inference_mode()
def test_encoder_blocks(network, model_goldens):
    """Both body networks have the same encoders; there is no golden of the hand's."""
    golden = model_goldens.npz("g2_transformers.npz")
    batch, num_tokens = golden["block2"].shape[:2]
    labels = {}
    for block in range(3):
        labels[f"block{block}"] = f"encoders.{block}"
        labels[f"block{block}/img_embedding"] = f"encoders.{block}.embedding"
        labels |= {f"block{block}/layer{j}": f"encoders.{block}.layers.{j}" for j in range(4)}
    tokens = torch.from_numpy(recipe.encoder_tokens(model_goldens.prefix, batch, num_tokens))
    with Recorder(network.model.cascade, labels, sample=lambda tensor: tensor) as recorder:
        output = network.model.cascade(tokens)
    close = model_goldens.assert_close
    close(output.tokens, golden["block2"], BLOCKS, "block2")
    for block in range(2):
        sample = recorder.samples[f"block{block}"][:, golden["tokens"]]
        close(sample, golden[f"block{block}"], BLOCKS, f"block{block}")
    for name in golden:
        if name.startswith("sample/"):
            sample = recorder.samples[name.removeprefix("sample/")][:, [0, 13, 14, 444], :16]
            close(sample, golden[name], BLOCKS, name)
    for label, row in zip(golden["stats_names"], golden["stats"], strict=True):
        assert_stats(recorder.stats[str(label)], row, BLOCKS, label)
