"""Golden files: where they are, how they are read, when a test is skipped for want of one.

A set is a folder with subfolders `model/` (RECIPE.md of the reference) and `data/` (its README.md).
`--goldens DIR` names another set; what belongs to no set (the manifest of keys and shapes, the
noise of each array) is taken from the committed set when DIR does not have it. Photos and the TSV
files that contain them are not committed: they are looked up in DIR/data, then in the reference
folder beside the repository, and a test that needs a missing one is skipped.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

COMMITTED = Path(__file__).parent
REFERENCE = COMMITTED.parents[2] / "shared" / "reference"


@dataclass(frozen=True)
class Goldens:
    """One half of a golden set: `model/` or `data/`."""

    half: str
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / self.half

    @property
    def prefix(self) -> str:
        """Start of the seed names of this set ("public/"; the data half writes no slash)."""
        return self.json("set.json" if self.half == "model" else "params.json")["prefix"]

    def npz(self, name: str) -> dict[str, np.ndarray]:
        """All arrays of a file."""
        with np.load(self._find(name)) as arrays:
            return {key: arrays[key] for key in arrays.files}

    def json(self, name: str) -> Any:
        return json.loads(self._find(name).read_text())

    def shared_json(self, name: str) -> Any:
        """A file that belongs to no set: this set's copy, else the committed one."""
        path = self.folder / name
        return json.loads((path if path.exists() else COMMITTED / self.half / name).read_text())

    def photo(self, relative: str) -> Path:
        """A file or folder with photos (`photos/x.jpg`, `tsv`), or skip the test."""
        places = (self.folder, REFERENCE / self.half)
        for place in places:
            if (place / relative).exists():
                return place / relative
        pytest.skip(f"{relative} is not committed and not in {' or '.join(map(str, places))}")

    def _find(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists() and self.root != COMMITTED:
            pytest.skip(f"this golden set has no {self.half}/{name}")
        return path

    @staticmethod
    def assert_close(actual: Any, expected: np.ndarray, relative: float, what: str = "") -> None:
        """Largest difference at most `relative` times the largest expected magnitude."""
        actual = np.asarray(actual, dtype=np.float64)
        expected = np.asarray(expected, dtype=np.float64)
        assert actual.shape == expected.shape, f"{what}: {actual.shape}, expected {expected.shape}"
        error = np.abs(actual - expected).max() / np.abs(expected).max()
        assert error <= relative, f"{what}: off by {error:.2e} of the largest value"


def _half(request, half: str) -> Goldens:
    root = request.config.getoption("--goldens").resolve()
    if not (root / half).is_dir():
        pytest.fail(f"--goldens {root} has no subfolder {half}")
    return Goldens(half, root)


@pytest.fixture(scope="session")
def model_goldens(request) -> Goldens:
    return _half(request, "model")


@pytest.fixture(scope="session")
def data_goldens(request) -> Goldens:
    return _half(request, "data")


@dataclass(frozen=True)
class Network:
    """One of the four networks of the manifest, with the recipe's weights and no dropout."""

    name: str
    kind: str
    arch: str
    model: Any
    body: Any


def metro_state_dict(manifest_entry: Any, prefix: str) -> dict[str, Any]:
    """Every entry that the original network has, dead ones included, by the recipe."""
    import recipe
    import torch

    return {
        key: torch.from_numpy(recipe.weight(key, tuple(shape), prefix))
        for key, shape, _, _ in manifest_entry["state_dict"]
    }


NETWORKS = [
    "body-hrnet-w40",
    "hand-hrnet-w40",
    pytest.param("body-hrnet-w64", marks=pytest.mark.slow),
    pytest.param("hand-hrnet-w64", marks=pytest.mark.slow),
]


@pytest.fixture(scope="session", params=NETWORKS)
def network(request, model_goldens, assets_dir) -> Network:
    """Loaded through the converter from a METRO state dict, so conversion is tested as well."""
    from metro_ray.bodies import load_body
    from metro_ray.models import build_metro
    from metro_ray.models.convert import load_state

    kind, arch = request.param.split("-", 1)
    body = load_body({"body": "smpl", "hand": "mano"}[kind], assets_dir)
    model = build_metro(
        body.spec,
        body.template_tokens(),
        arch=arch,
        input_feat_dim=(2051, 512, 128),
        hidden_feat_dim=(1024, 256, 128 if kind == "body" else 64),
        num_hidden_layers=4,
        num_attention_heads=4,
        dropout=0.0,
        attention_dropout=0.0,
    )
    manifest = model_goldens.shared_json("manifest.json")[request.param]
    tensors = metro_state_dict(manifest, model_goldens.prefix)
    report = load_state(model, tensors, request.param)
    assert report.matches
    return Network(request.param, kind, arch, model.eval(), body)
