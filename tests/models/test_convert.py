import json

import pytest
import torch
from safetensors.torch import save_file

from metro_ray.errors import CheckpointError
from metro_ray.models.architecture import infer_architecture
from metro_ray.models.convert import (
    convert_weights,
    load_backbone_weights,
    load_weights,
    read_metro_state_dict,
    to_metro_state_dict,
)
from metro_ray.models.metro_format import to_metro_key
from metro_ray.models.parameters import count_parameters


def same(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


@pytest.fixture
def released(make_metro, tmp_path):
    """A body network with other numbers, and its METRO state dict in the format of torch 1.4."""
    model, path = make_metro(seed=1), tmp_path / "metro_3dpw_state_dict.bin"
    torch.save(to_metro_state_dict(model), path, _use_new_zipfile_serialization=False)
    return model, path


@pytest.mark.parametrize("mesh", ["smpl", "mano", "anny_body"])
def test_metro_round_trip(mesh, make_metro, tmp_path):
    source, target = make_metro(mesh, seed=1), make_metro(mesh, seed=2)
    torch.save(to_metro_state_dict(source), tmp_path / "state_dict.bin")
    report = load_weights(target, tmp_path / "state_dict.bin")
    same(target.state_dict(), source.state_dict())
    assert report.matches
    assert len(report.used) == len(source.state_dict())
    assert len(report.dead) == 3 * 7 + 2


def test_resnet_is_numbered_in_metros_files(make_metro, tmp_path):
    """METRO wraps torchvision's children in a sequence (quirk 34)."""
    model = make_metro(arch="resnet50", seed=1)
    written = to_metro_state_dict(model)
    backbone = [key for key in written if key.startswith("backbone.")]
    assert backbone[0] == "backbone.0.weight"
    assert written["backbone.0.weight"].shape == (64, 3, 7, 7)
    assert written["backbone.4.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert "backbone.7.2.bn3.running_var" in written
    assert {key.split(".")[1] for key in backbone} == {"0", "1", "4", "5", "6", "7"}
    assert not any("classifier" in key or ".fc." in key for key in written)
    torch.save(written, tmp_path / "state_dict.bin")
    same(read_metro_state_dict(tmp_path / "state_dict.bin"), model.state_dict())


def test_names_of_metro():
    assert to_metro_key("camera.over_tokens.bias") == "cam_param_fc2.bias"
    assert (
        to_metro_key("cascade.encoders.1.layers.3.attention_norm.weight")
        == "trans_encoder.1.bert.encoder.layer.3.attention.output.LayerNorm.weight"
    )
    assert (
        to_metro_key("cascade.encoders.2.positions")
        == "trans_encoder.2.bert.position_embeddings.weight"
    )
    with pytest.raises(CheckpointError, match=r"no place for upsampler\.steps\.2"):
        to_metro_key("upsampler.steps.2.weight")


def test_every_difference_is_listed_and_nothing_is_changed(released, make_metro, tmp_path):
    source, path = released
    tensors = torch.load(path, weights_only=True)
    del tensors["cam_param_fc.bias"]
    tensors["cam_param_fc3.weight"] = torch.zeros(3, 99)
    tensors["trans_encoder.3.cls_head.weight"] = torch.zeros(3, 3)
    tensors["stranger"] = torch.zeros(1)
    torch.save(tensors, tmp_path / "state_dict.bin")
    model = make_metro(seed=2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, tmp_path / "state_dict.bin")
    for part in (
        "1 missing in the file: camera.per_token.bias",
        "2 not in the network: cascade.encoders.3.projection.weight, stranger",
        "camera.output.weight (file [3, 99], network [3, 250])",
        "run.allow_mismatch",
    ):
        assert part in str(caught.value)
    same(model.state_dict(), before)

    report = load_weights(model, tmp_path / "state_dict.bin", allow_mismatch=True)
    assert not report.matches
    assert report.missing == ("camera.per_token.bias",)
    after = model.state_dict()
    assert torch.equal(after["camera.per_token.bias"], before["camera.per_token.bias"])
    assert torch.equal(after["backbone.conv1.weight"], source.state_dict()["backbone.conv1.weight"])


def test_another_architecture_is_refused(released, make_metro):
    with pytest.raises(CheckpointError, match=r"of another shape: cascade\.encoders\.0\.positions"):
        load_weights(make_metro(hidden_feat_dim=(8, 8, 8)), released[1])


def test_position_rows_of_fewer_tokens_do_not_fit(released, make_metro):
    """A table is cut to the tokens of its own network, so body weights never enter a hand."""
    with pytest.raises(CheckpointError, match=r"positions \(file \[445, 16\], network \[216, 16\]"):
        load_weights(make_metro("mano"), released[1])


def imagenet(model, names="hrnet"):
    tensors = {key: value + 0 for key, value in model.backbone.state_dict().items()}
    classes = "classifier" if names == "hrnet" else "fc"
    tensors[f"{classes}.weight"] = torch.zeros(1000, 2048)
    tensors[f"{classes}.bias"] = torch.zeros(1000)
    return tensors


@pytest.mark.parametrize("form", ["pth", "wrapped", "old", "safetensors"])
def test_imagenet_hrnet(form, make_metro, tmp_path):
    source, target = make_metro(seed=1), make_metro(seed=2)
    tensors = imagenet(source)
    if form == "safetensors":
        path = tmp_path / "model.safetensors"
        save_file(tensors, path)
    else:
        path = tmp_path / "hrnetv2_w18_imagenet_pretrained.pth"
        if form == "old":  # before torch 0.4.1 BatchNorm did not count batches
            tensors = {key: value for key, value in tensors.items() if "num_batches" not in key}
        torch.save({"state_dict": tensors} if form == "wrapped" else tensors, path)
    camera = target.camera.output.weight.clone()
    report = load_backbone_weights(target, path)
    same(target.backbone.state_dict(), source.backbone.state_dict())
    assert torch.equal(target.camera.output.weight, camera)
    assert sorted(report.dead) == ["classifier.bias", "classifier.weight"]


def test_imagenet_resnet(make_metro, tmp_path):
    source, target = make_metro(arch="resnet50", seed=1), make_metro(arch="resnet50", seed=2)
    torch.save(imagenet(source, "resnet"), tmp_path / "resnet50-0676ba61.pth")
    report = load_backbone_weights(target, tmp_path / "resnet50-0676ba61.pth")
    same(target.backbone.state_dict(), source.backbone.state_dict())
    assert report.dead == ("fc.weight", "fc.bias")


def test_backbone_of_a_metro_file(released, make_metro):
    source, path = released
    target = make_metro("mano", seed=2)
    load_backbone_weights(target, path)
    same(target.backbone.state_dict(), source.backbone.state_dict())


def test_backbone_weights_of_another_width_are_refused(make_metro, tmp_path):
    torch.save(imagenet(make_metro(arch="hrnet-w18-small-v2")), tmp_path / "hrnet.pth")
    with pytest.raises(CheckpointError, match=r"not in the network: layer1\.1\.conv1\.weight"):
        load_backbone_weights(make_metro(), tmp_path / "hrnet.pth")


def test_a_backbone_is_not_a_network(make_metro, tmp_path):
    torch.save(imagenet(make_metro()), tmp_path / "hrnet.pth")
    with pytest.raises(CheckpointError, match=r"model\.backbone_weights"):
        load_weights(make_metro(), tmp_path / "hrnet.pth", allow_mismatch=True)


def test_not_one_key_fits(make_metro, tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="not one key fits"):
        load_backbone_weights(make_metro(), tmp_path / "x.pth", allow_mismatch=True)


@pytest.mark.parametrize(
    ("mesh", "arch"),
    [("smpl", "hrnet-w18-small"), ("mano", "hrnet-w18"), ("anny_body", "resnet50")],
)
def test_architecture_is_read_off_the_state(mesh, arch, make_metro):
    found = infer_architecture(make_metro(mesh, arch=arch).state_dict())
    assert (found.spec.name, found.arch) == (mesh, arch)
    assert found.input_feat_dim == (2051, 32, 16)
    assert found.hidden_feat_dim == (16, 8, 8)
    assert found.num_hidden_layers == 2


def test_convert_to_a_checkpoint_folder_and_back(released, tmp_path):
    path = released[1]
    report = convert_weights(path, tmp_path / "run" / "checkpoint")
    assert len(report.dead) == 23
    meta = json.loads((tmp_path / "run" / "checkpoint" / "meta.json").read_text())
    assert meta["mesh"] == "smpl"
    assert meta["config"]["kind"] == "body"
    assert meta["config"]["model"]["arch"] == "hrnet-w18-small"
    convert_weights(tmp_path / "run" / "checkpoint", tmp_path / "again_state_dict.bin")
    first, second = (
        torch.load(file, weights_only=True) for file in (path, tmp_path / "again_state_dict.bin")
    )
    assert list(first) == list(second)
    same(first, second)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["checkpoint"]


def test_a_converted_folder_is_a_checkpoint_that_training_reads(released, make_metro, tmp_path):
    from metro_ray.training.checkpoint import load_checkpoint

    source, path = released
    convert_weights(path, tmp_path / "checkpoint")
    model = make_metro(seed=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    meta = load_checkpoint(tmp_path / "checkpoint", model, optimizer)
    assert (meta.epoch, meta.step) == (0, 0)
    assert not optimizer.state_dict()["state"]
    same(model.state_dict(), source.state_dict())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("there", "exists already"),
        ("new_state_dict.bin", "the target is a checkpoint folder"),
    ],
)
def test_targets_of_a_metro_file(released, tmp_path, target, message):
    (tmp_path / "there").mkdir()
    with pytest.raises(CheckpointError, match=message):
        convert_weights(released[1], tmp_path / target)


@pytest.mark.parametrize("target", ["folder", "weights.bin", "state_dict.pth"])
def test_metro_recognises_a_state_dict_by_its_name(make_metro, tmp_path, target):
    save_file(make_metro().state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="only if its name says 'state_dict'"):
        convert_weights(tmp_path / "model.safetensors", tmp_path / target)


def test_conversion_never_leaves_a_hole(released, tmp_path):
    tensors = torch.load(released[1], weights_only=True)
    del tensors["cam_param_fc.bias"]
    torch.save(tensors, tmp_path / "state_dict.bin")
    with pytest.raises(CheckpointError, match="would be incomplete"):
        convert_weights(tmp_path / "state_dict.bin", tmp_path / "out", allow_mismatch=True)
    assert not (tmp_path / "out").exists()


def test_an_extra_key_can_be_allowed(released, tmp_path):
    tensors = torch.load(released[1], weights_only=True)
    tensors["extra.weight"] = torch.zeros(2)
    torch.save(tensors, tmp_path / "state_dict.bin")
    with pytest.raises(CheckpointError, match=r"extra\.weight"):
        convert_weights(tmp_path / "state_dict.bin", tmp_path / "out")
    report = convert_weights(tmp_path / "state_dict.bin", tmp_path / "out", allow_mismatch=True)
    assert report.unexpected == ("extra.weight",)


def test_a_state_of_no_known_network(make_metro, tmp_path):
    state = make_metro().state_dict()
    for name, changes, message in (
        ("mesh", {"upsampler.steps.1.weight": torch.zeros(7000, 1723)}, "no known body model"),
        ("backbone", {"backbone.conv1.weight": torch.zeros(8, 3, 3, 3)}, "is none of: hrnet"),
    ):
        save_file({**state, **changes}, tmp_path / f"{name}.safetensors")
        with pytest.raises(CheckpointError, match=message):
            convert_weights(tmp_path / f"{name}.safetensors", tmp_path / "state_dict.bin")
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not the state of a whole METRO network"):
        convert_weights(tmp_path / "other.safetensors", tmp_path / "state_dict.bin")


def test_counts_of_resnet_have_no_classifier(make_metro):
    """METRO's sequence of torchvision's children leaves the classifier out (quirk 34)."""
    report = count_parameters(make_metro(arch="resnet50"))
    assert report.metro_backbone == report.ours_backbone == 23_508_032
    assert "classifier" not in report.text
