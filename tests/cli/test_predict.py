"""`metro-ray predict` from a checkpoint folder to mesh files and a gallery."""

from dataclasses import asdict

import cv2
import numpy as np
import pytest

from metro_ray.cli.main import main

SETTINGS = {
    "model.mesh": "anny_hand",
    "model.arch": "hrnet-w18-small",
    "model.hidden_feat_dim": (32, 16),
    "model.input_feat_dim": (2051, 32),
    "model.num_hidden_layers": 1,
    "model.backbone_weights": "gone.pth",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder as training leaves it; the ImageNet weights it started from are gone."""
    import torch

    from metro_ray.bodies import load_body
    from metro_ray.config.load import load_config
    from metro_ray.training.builders import build_model
    from metro_ray.training.checkpoint import save_checkpoint
    from metro_ray.training.checkpoint_meta import CheckpointMeta

    config = load_config("hand", None, SETTINGS)
    scratch = load_config("hand", None, SETTINGS | {"model.backbone_weights": None})
    torch.manual_seed(0)
    model = build_model(scratch, load_body("anny_hand"))
    meta = CheckpointMeta(config=asdict(config), mesh="anny_hand", epoch=1, step=1)
    folder, _ = save_checkpoint(
        tmp_path_factory.mktemp("run"), model, torch.optim.Adam(model.parameters()), meta
    )
    return folder


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "photos" / "hand.jpg"
    path.parent.mkdir()
    cv2.imwrite(str(path), np.full((120, 160, 3), 90, np.uint8))
    return path


def test_meshes_and_gallery(checkpoint, picture, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["predict", str(picture.parent), "--checkpoint", str(checkpoint), "--out", str(out)]
    assert main([*argv, "--formats", "npz", "obj", "--box", "80", "60", "100"]) == 0
    assert "meshes: 1 in" in capsys.readouterr().out
    with np.load(out / "000_hand.npz") as result:
        assert np.isfinite(result["vertices"]).all()
        assert len(result["vertices"]) == 1596
    assert (out / "000_hand.obj").stat().st_size > 0
    assert "hand.jpg" in (out / "gallery.html").read_text()


def test_attention_maps_when_asked_for(checkpoint, picture, tmp_path):
    out = tmp_path / "out"
    argv = ["predict", str(picture), "--checkpoint", str(checkpoint), "--out", str(out)]
    assert main([*argv, "--formats", "--attention"]) == 0
    with np.load(out / "000_hand.attention.npz") as maps:
        attentions, hidden = maps["attentions"], maps["hidden_states"]
    heads, tokens = 4, 21 + 195
    assert attentions.shape == (1, heads, tokens, tokens)
    np.testing.assert_allclose(attentions.sum(axis=-1), 1, atol=1e-4)
    assert hidden.shape == (2, tokens, 16)
    assert main(argv) == 0
    assert len(list(out.glob("*.attention.npz"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jpg"], "nothing.jpg does not exist"),
        (["EMPTY"], "has no pictures"),
        (["PICTURE", "--checkpoint", "nowhere"], "nowhere is not a complete checkpoint"),
        (["PICTURE", "PICTURE", "--box", "1", "2", "3"], "--box belongs to one picture"),
        (["PICTURE", "--formats", "stl"], "invalid choice: 'stl'"),
    ],
)
def test_refusals(arguments, message, picture, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    names = {"EMPTY": str(tmp_path / "empty"), "PICTURE": str(picture)}
    argv = [names.get(argument, argument) for argument in arguments]
    with pytest.raises(SystemExit) as caught:
        main(["predict", "--checkpoint", "x", *argv])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
