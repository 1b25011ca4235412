import sys
import types

import pytest
import torch
from torch import nn

from metro_ray.errors import ConfigError
from metro_ray.models.backbones import BACKBONES, build_backbone
from metro_ray.models.blocks import BasicBlock, Bottleneck, start_from_shortcuts

# Published totals without the ImageNet classifier (2048 x 1000 + 1000).
PARAMETERS = {
    "hrnet-w18-small": 13_187_464 - 2_049_000,
    "hrnet-w18-small-v2": 15_597_464 - 2_049_000,
    "hrnet-w18": 21_299_004 - 2_049_000,
    "hrnet-w32": 41_232_680 - 2_049_000,
    "hrnet-w40": 57_557_160 - 2_049_000,
    "hrnet-w48": 77_469_864 - 2_049_000,
    "hrnet-w64": 128_059_944 - 2_049_000,
    "hrnet": 57_557_160 - 2_049_000,
    "resnet50": 25_557_032 - 2_049_000,
}


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_contract(name):
    with torch.device("meta"):
        backbone = build_backbone(name)
        features = backbone(torch.empty(2, 3, 224, 224))
    assert features.shape == (2, 2048, 7, 7)
    assert sum(p.numel() for p in backbone.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", ["hrnet-w18-small", "resnet50"])
def test_start_is_kaiming_normal_by_fan_out(name):
    torch.manual_seed(0)
    for module in build_backbone(name).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert module.momentum == 0.1
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown backbone 'hrnet-w63'.*hrnet-w64.*resnet50"):
        build_backbone("hrnet-w63")


def test_timm_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="pip install timm"):
        build_backbone("timm/resnet50")


@pytest.fixture
def fake_timm(monkeypatch):
    """A timm that knows two models: one that fits and one that is too narrow."""

    def create_model(name, *, pretrained, num_classes, global_pool):
        assert (pretrained, num_classes, global_pool) == (False, 0, "")
        channels = {"wide": 2048, "narrow": 512}
        if name not in channels:
            raise RuntimeError(f"Unknown model ({name})")
        return nn.Sequential(nn.Conv2d(3, channels[name], 32, 32), nn.BatchNorm2d(channels[name]))

    module = types.ModuleType("timm")
    module.create_model, module.__version__ = create_model, "1.0"
    monkeypatch.setitem(sys.modules, "timm", module)


def test_timm_model(fake_timm):
    backbone = build_backbone("timm/wide")
    assert backbone(torch.zeros(2, 3, 224, 224)).shape == (2, 2048, 7, 7)
    assert backbone.training
    assert backbone[1].num_batches_tracked == 1


def test_timm_model_of_another_width_is_refused(fake_timm):
    with pytest.raises(ConfigError, match=r"\(1, 512, 7, 7\).*METRO needs \(1, 2048, 7, 7\)"):
        build_backbone("timm/narrow")


def test_timm_name_that_timm_does_not_know(fake_timm):
    with pytest.raises(ConfigError, match=r"cannot build 'nothing'.*Unknown model"):
        build_backbone("timm/nothing")


@pytest.mark.parametrize("name", ["hrnet-w18-small", "resnet50"])
def test_residual_blocks_can_start_as_their_shortcuts(name):
    backbone = build_backbone(name)
    start_from_shortcuts(backbone)
    last = [
        child.bn2.weight if isinstance(child, BasicBlock) else child.bn3.weight
        for child in backbone.modules()
        if isinstance(child, BasicBlock | Bottleneck)
    ]
    assert last
    assert all(float(weight.detach().abs().max()) == 0 for weight in last)
    backbone(torch.rand(2, 3, 224, 224)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in last)
