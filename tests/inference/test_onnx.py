"""ONNX files: the same numbers as PyTorch for any batch, and words where one cannot be read."""

import sys

import numpy as np
import onnx
import pytest
import torch

from metro_ray.errors import CheckpointError, ConfigError
from metro_ray.inference import Predictor
from metro_ray.inference.onnx_export import export_onnx, write_onnx
from metro_ray.inference.onnx_network import OnnxCard, OnnxNetwork
from metro_ray.training.checkpoint import load_predictor_parts
from tests.served import write_checkpoint


@pytest.fixture(scope="module", params=["body", "hand"])
def parts(request, tmp_path_factory):
    folder = write_checkpoint(tmp_path_factory.mktemp(request.param), request.param, 3, 7)
    return load_predictor_parts(folder)


@pytest.fixture(scope="module")
def file(parts, tmp_path_factory):
    """Written; which must leave the network as it was, and nothing else in the folder."""
    before = {name: value.clone() for name, value in parts.model.state_dict().items()}
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    write_onnx(parts, "0123456789-7", path)
    after = parts.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert list(path.parent.iterdir()) == [path]
    return path


def test_it_gives_what_pytorch_gives_for_any_batch(parts, file):
    predictor, network = Predictor(parts.model, parts.body), OnnxNetwork(file, threads=1)
    rng = np.random.default_rng(0)
    for size in (1, 2, 5):
        crops = rng.integers(0, 256, (size, 3, 224, 224), np.uint8)
        for one, other in zip(
            predictor.predict_arrays(crops), network.predict_arrays(crops), strict=True
        ):
            assert one.shape == other.shape
            assert one.dtype == other.dtype
            np.testing.assert_allclose(other, one, atol=2e-5)
    assert np.array_equal(network.faces(), predictor.faces)


def test_the_file_says_what_it_is_and_is_valid(parts, file):
    spec = parts.body.spec
    assert OnnxNetwork(file).card == OnnxCard(
        version="0123456789-7",
        body_model=spec.name,
        kind=spec.kind,
        arch="hrnet-w18-small",
        image_size=224,
        joint_names=tuple(spec.joints.names),
    )
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert [output.name for output in model.graph.output] == [
        *("vertices", "joints", "cameras"),
        "faces",
    ]
    assert not [node for node in model.graph.node if node.op_type == "BatchNormalization"]


def test_what_cannot_be_read_is_named(tmp_path, file):
    with pytest.raises(CheckpointError, match=r"none\.onnx does not exist; write one with"):
        OnnxNetwork(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="not a readable ONNX file"):
        OnnxNetwork(broken)
    model = onnx.load(file)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "strange.onnx")
    with pytest.raises(CheckpointError, match="an ONNX file of something else"):
        OnnxNetwork(tmp_path / "strange.onnx")


def test_missing_packages_are_named(monkeypatch, parts, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'metro-ray\[onnx\]'"):
        write_onnx(parts, "v", tmp_path / "one.onnx")
    with pytest.raises(ConfigError, match="ONNX Runtime is not installed"):
        OnnxNetwork(tmp_path / "one.onnx")


class _Choosy(torch.nn.Module):
    """What it computes depends on the picture, which no graph can say."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        factor = 2.0 if images.mean() > 0 else 1.0
        return self.scale * factor * torch.ones(len(images), 2048, 7, 7)


def test_a_network_that_cannot_be_written_is_refused(parts, tmp_path):
    card = OnnxCard("v", "anny_body", "body", "strange", 224, ())
    before, parts.model.backbone = parts.model.backbone, _Choosy()
    try:
        with pytest.raises(ConfigError, match="cannot write this network as ONNX"):
            export_onnx(parts.model, parts.body, tmp_path / "one.onnx", card)
    finally:
        parts.model.backbone = before
    assert not list(tmp_path.iterdir())
