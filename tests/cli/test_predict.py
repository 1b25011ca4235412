"""`metro-ray predict` from a checkpoint folder to meshes, numbers, overlays, a gallery."""

import functools
import json
import shutil
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import trimesh

from metro_ray.cli.main import main

SETTINGS = {
    "model.mesh": "anny_hand",
    "model.arch": "hrnet-w18-small",
    "model.hidden_feat_dim": (32, 16),
    "model.input_feat_dim": (2051, 32),
    "model.num_hidden_layers": 1,
    "model.backbone_weights": "gone.pth",
    "model.output_init": "template",
    "model.upsampling_init": "topology",
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
    with torch.no_grad():  # a camera in front of which there is something
        model.camera.output.bias.copy_(torch.tensor([3.0, 0.05, -0.02]))
    meta = CheckpointMeta(config=asdict(config), mesh="anny_hand", epoch=1, step=1)
    folder, _ = save_checkpoint(
        tmp_path_factory.mktemp("run"), model, torch.optim.Adam(model.parameters()), meta
    )
    return folder


@pytest.fixture
def photos(tmp_path):
    """A folder of three pictures, one of them below, a broken one, and a text."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, (height, width) in {
        "a.jpg": (120, 160),
        "b.png": (90, 90),
        "sub/c.png": (70, 200),
    }.items():
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (height, width, 3), np.uint8))
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:400])
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def picture(photos):
    return photos / "a.jpg"


@pytest.fixture(scope="module")
def load_once():
    """Loads a checkpoint the first time only; every load is the same."""
    from metro_ray.inference import Predictor

    return functools.cache(Predictor.from_checkpoint)


@pytest.fixture
def predict(checkpoint, load_once, tmp_path, monkeypatch):
    """Runs the command with this checkpoint into `out`, without a gallery unless asked for."""
    monkeypatch.setattr("metro_ray.inference.Predictor.from_checkpoint", load_once)

    def run(*arguments):
        fixed = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "out"), "--gallery", "0"]
        return main(["predict", *fixed, *map(str, arguments)])

    return run


def _record(folder):
    return json.loads((folder / "people.json").read_text())


def test_all_that_is_written_about_a_picture(predict, picture, tmp_path, capsys):
    formats = ("--formats", "npz", "obj", "ply", "glb")
    assert predict(picture, *formats, "--gallery", 3, "--box", 40, 30, 60, 50, "--focal", 300) == 0
    assert "pictures: 1 predicted with 1 people, 0 kept, 0 failed" in capsys.readouterr().out
    folder = tmp_path / "out" / "a_jpg"
    assert cv2.imread(str(folder / "overlay.jpg")).shape == (120, 160, 3)
    record = _record(folder)
    assert record["camera"]["focal_px"] == [300.0, 300.0]
    (person,) = record["people"]
    assert person["hand"] == "right"
    assert person["box"] == [40.0, 30.0, 60.0, 50.0]
    assert person["window"] == [33, 18, 106, 91]  # 72 px, and what METRO's rounding adds
    assert np.shape(person["joints_m"]) == (21, 3)
    with np.load(folder / person["files"]["npz"]) as arrays:
        vertices, root = arrays["vertices"], arrays["translation"]
        np.testing.assert_allclose(arrays["joints_px"][:, :2], person["joints_px"], atol=1e-3)
    assert vertices.shape == (1596, 3)
    np.testing.assert_allclose(root, person["translation_m"], atol=1e-6)
    for ending in ("obj", "ply", "glb"):
        mesh = trimesh.load(folder / person["files"][ending], process=False, force="mesh")
        np.testing.assert_allclose(mesh.vertices, (vertices + root) * [1, -1, -1], atol=1e-5)
    assert "a.jpg" in (tmp_path / "out" / "gallery.html").read_text()


def test_an_assumed_camera_is_said_to_be_assumed(predict, picture, tmp_path):
    assert predict(picture, "--formats") == 0
    camera = _record(tmp_path / "out" / "a_jpg")["camera"]
    assert camera["focal_px"] == [200.0, 200.0]
    assert camera["source"].startswith("assumed: focal length = diagonal")


def test_several_people_and_a_left_hand(predict, picture, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(
        json.dumps({"a.jpg": [[10, 10, 50, 40], {"box": [80, 50, 60, 60], "hand": "left"}]})
    )
    assert predict(picture, "--boxes", boxes, "--formats", "obj", "--origin", "root") == 0
    first, second = _record(tmp_path / "out" / "a_jpg")["people"]
    assert (first["hand"], second["hand"]) == ("right", "left")
    volumes = [
        trimesh.load(tmp_path / "out" / "a_jpg" / name, process=False, force="mesh").volume
        for name in ("person0.obj", "person1.obj")
    ]
    assert volumes[0] > 0
    assert volumes[1] > 0  # the mirrored faces still look outwards


def test_a_folder_goes_on_past_broken_files_and_keeps_what_is_finished(
    predict, photos, tmp_path, capsys
):
    once = (photos, "--recursive", "--formats")
    assert predict(*once) == 1
    said = capsys.readouterr()
    assert "pictures: 3 predicted with 3 people, 0 kept, 1 failed" in said.out
    assert "skipped: 1 files" in said.out
    assert "broken.jpg: " in said.err
    assert (tmp_path / "out" / "sub" / "c_png" / "people.json").is_file()
    written = (tmp_path / "out" / "a_jpg" / "people.json").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "out" / "b_png")
    assert predict(*once) == 1
    assert "1 predicted with 1 people, 2 kept, 1 failed" in capsys.readouterr().out
    assert (tmp_path / "out" / "a_jpg" / "people.json").stat().st_mtime_ns == written
    (photos / "broken.jpg").unlink()
    assert predict(*once, "--overwrite") == 0
    assert "3 predicted with 3 people, 0 kept, 0 failed" in capsys.readouterr().out


def test_finished_pictures_of_other_settings_are_not_passed_off_as_these(predict, picture, capsys):
    assert predict(picture, "--formats") == 0
    with pytest.raises(SystemExit):
        predict(picture, "--formats", "--hand", "left", "--focal", 500)
    assert "other settings (camera, hand): use --overwrite" in capsys.readouterr().err


def test_attention_maps_when_asked_for(predict, picture, tmp_path):
    assert predict(picture, "--formats", "--attention") == 0
    with np.load(tmp_path / "out" / "a_jpg" / "person0.attention.npz") as maps:
        attentions, hidden = maps["attentions"], maps["hidden_states"]
    heads, tokens = 4, 21 + 195
    assert attentions.shape == (1, heads, tokens, tokens)
    np.testing.assert_allclose(attentions.sum(axis=-1), 1, atol=1e-4)
    assert hidden.shape == (2, tokens, 16)
    assert predict(picture, "--formats", "--overwrite") == 0
    assert not list((tmp_path / "out").rglob("*.attention.npz"))


def test_a_video(predict, tmp_path, capsys):
    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (96, 64))
    rng = np.random.default_rng(0)
    for _ in range(11):
        writer.write(rng.integers(0, 256, (64, 96, 3), np.uint8))
    writer.release()
    assert predict(clip, "--every", 2, "--max-frames", 5, "--smooth") == 0
    assert "video: 5 frames with 5 people" in capsys.readouterr().out
    lines = (tmp_path / "out" / "clip_mp4" / "people.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jpg"], "nothing.jpg does not exist"),
        (["EMPTY"], "has no pictures or videos"),
        (["PICTURE", "--checkpoint", "nowhere"], "nowhere is not a complete checkpoint"),
        (["FOLDER", "--box", "1", "2", "3", "4"], "--box belongs to one file, got 3"),
        (["PICTURE", "--box", "1", "2", "0", "4"], "has no size"),
        (["PICTURE", "--formats", "stl"], "invalid choice: 'stl'"),
        (["PICTURE", "--every", "0"], "must be 1 or more"),
        (["PICTURE", "--codec", "h264x"], "four letters"),
        (["PICTURE", "--smooth-beta", "-1"], "beta of 0 or more"),
    ],
)
def test_refusals_before_anything_is_loaded(arguments, message, photos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    names = {"EMPTY": tmp_path / "empty", "PICTURE": photos / "a.jpg", "FOLDER": photos}
    argv = [str(names.get(argument, argument)) for argument in arguments]
    with pytest.raises(SystemExit) as caught:
        main(["predict", "--checkpoint", "x", *argv])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ({"a.jpg": [[500, 500, 20, 20]]}, "a.jpg, box 0: its square of"),
        ({"a.jpg": [{"box": [1, 2, 30, 40], "kind": "body"}]}, "a.jpg, box 0 is of a body, but"),
    ],
)
def test_boxes_that_do_not_fit_are_named(boxes, message, predict, picture, tmp_path, capsys):
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(boxes))
    with pytest.raises(SystemExit) as caught:
        predict(picture, "--boxes", file)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_picture_is_named(predict, photos, capsys):
    with pytest.raises(SystemExit) as caught:
        predict(photos / "notes.txt")
    assert caught.value.code == 2
    assert "notes.txt" in capsys.readouterr().err
