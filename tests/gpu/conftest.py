"""Tests that need a CUDA device: `make test-gpu`. Without one each is skipped and says so."""

import pytest
import torch
from training.conftest import TinyBackbone, TinyBody, TinyData, make_config  # noqa: F401

from metro_ray.models.backbones import BACKBONES


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name != "gpu":
            continue
        item.add_marker(pytest.mark.gpu)
        if not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="PyTorch sees no CUDA device here"))


@pytest.fixture(autouse=True)
def _tiny_backbone(monkeypatch):
    monkeypatch.setitem(BACKBONES, "tiny", TinyBackbone)


@pytest.fixture
def body():
    """A run moves its body to the GPU, so each test has its own."""
    return TinyBody()


@pytest.fixture
def tiny_data():
    """Makes a data source, whose rows are made on the CPU."""
    return lambda **settings: TinyData(TinyBody(), **settings)


@pytest.fixture
def device():
    """The first GPU, with its statistics of memory set back."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.device("cuda", 0)
