"""Keys, shapes, order and counts of METRO's state dicts against the manifest."""

import pytest
import recipe
import torch

from metro_ray.bodies.spec import get_spec
from metro_ray.models import build_metro
from metro_ray.models.convert import read_metro_state_dict, to_metro_state_dict
from metro_ray.models.metro_format import from_metro, to_metro
from metro_ray.models.parameters import count_parameters

NETWORKS = ["body-hrnet-w64", "body-hrnet-w40", "hand-hrnet-w64", "hand-hrnet-w40"]


@pytest.fixture(scope="module", params=NETWORKS)
def manifest(request, model_goldens):
    return {"name": request.param, **model_goldens.shared_json("manifest.json")[request.param]}


@pytest.fixture
def skeleton(manifest):
    """The network without memory for its numbers."""
    kind, arch = manifest["name"].split("-", 1)
    spec = get_spec({"body": "smpl", "hand": "mano"}[kind])
    with torch.device("meta"):
        yield build_metro(
            spec,
            torch.zeros(spec.num_tokens, 3),
            arch=arch,
            input_feat_dim=(2051, 512, 128),
            hidden_feat_dim=(1024, 256, 128 if kind == "body" else 64),
            num_hidden_layers=4,
            num_attention_heads=4,
            dropout=0.1,
        )


def test_written_state_dict_is_metros(manifest, skeleton):
    written = to_metro(skeleton.state_dict())
    got = [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in written.items()
    ]
    assert got == [entry[:3] for entry in manifest["state_dict"]]


def test_counts(manifest, skeleton):
    report = count_parameters(skeleton)
    assert report.metro_transformers == manifest["parameters"]["transformers"]
    assert report.metro_backbone == manifest["parameters"]["backbone"]
    ours = sum(parameter.numel() for parameter in skeleton.parameters())
    unused_rows = sum(
        (table["rows"] - table["rows_with_gradient"]) * shape[1]
        for key, table in manifest["exactly_zero_gradient_rows"].items()
        for name, shape, _, _ in manifest["state_dict"]
        if name == key
    )
    never = manifest["never_gets_gradient"]["numbers"]
    assert ours == manifest["parameters"]["whole"] - never - unused_rows
    assert str(report.ours_transformers) in report.text
    assert "\n" not in report.text


def test_what_we_leave_out_is_what_never_gets_a_gradient(manifest, skeleton):
    shapes = {key: torch.empty(shape, device="meta") for key, shape, _, _ in manifest["state_dict"]}
    converted = from_metro(shapes)
    assert sorted(converted.dead) == sorted(manifest["never_gets_gradient"]["keys"])
    assert converted.state.keys() == skeleton.state_dict().keys()


@pytest.mark.parametrize(
    "network",
    ["body-hrnet-w40", pytest.param("hand-hrnet-w64", marks=pytest.mark.slow)],
    indirect=True,
)
def test_written_numbers_are_those_that_were_read(network, model_goldens, tmp_path):
    """Through a file, as METRO would read it; what METRO never uses is filled, not kept."""
    path = tmp_path / "metro_state_dict.bin"
    torch.save(to_metro_state_dict(network.model), path)
    again = read_metro_state_dict(path)
    own = network.model.state_dict()
    assert again.keys() == own.keys()
    assert all(torch.equal(again[key], own[key]) for key in own)

    written = torch.load(path, weights_only=True)
    never = model_goldens.shared_json("manifest.json")[network.name]["never_gets_gradient"]["keys"]
    for key, value in written.items():
        if key in never:
            assert value.eq(1.0 if key.endswith("LayerNorm.weight") else 0.0).all(), key
        elif key.endswith("bert.position_embeddings.weight"):
            rows = network.body.spec.num_tokens
            expected = recipe.weight(key, tuple(value.shape), model_goldens.prefix)[:rows]
            assert torch.equal(value[:rows], torch.from_numpy(expected))
            assert value[rows:].eq(0.0).all()
        elif "encoder.layer.3" in key or "cam_param" in key or "final_layer" in key:
            expected = recipe.weight(key, tuple(value.shape), model_goldens.prefix)
            assert torch.equal(value, torch.from_numpy(expected)), key
