"""`metro-ray call` against a server that answers as it is told."""

import json

import pytest
from live import Scripted

from metro_ray.cli.main import main

MESH = (200, {}, b"mesh")
MODELS = (200, {}, b'{"models": []}')
REFUSED = (
    400,
    {},
    b'{"error": {"code": "bad_image", "message": "no image; send a JPEG", "request_id": "r1"}}',
)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.png", "notes.txt"):
        (folder / name).write_bytes(name.encode())
    return folder


def call(server, *arguments):
    return main(["call", *map(str, arguments), "--url", server.url, "--parallel", "1"])


def test_each_photo_of_a_folder_gets_its_file(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("METRO_RAY_API_KEY", "mr_secret")
    with Scripted(MODELS, MESH) as server:
        assert call(server, photos, "--out", tmp_path / "out", "--format", "obj") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_jpg.obj", "b_png.obj"]
    assert (tmp_path / "out" / "a_jpg.obj").read_bytes() == b"mesh"
    assert [path.partition("?")[0] for _, path, _, _ in server.seen] == [
        "/v1/models",
        *["/v1/body"] * 2,
    ]
    assert {headers["Authorization"] for _, _, headers, _ in server.seen} == {"Bearer mr_secret"}
    assert "2 answered, 0 failed" in capsys.readouterr().out


def test_boxes_and_hands_are_sent_as_corners(photos, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(
        json.dumps({"a.jpg": [{"box": [10, 20, 30, 40], "hand": "left"}], "b.png": []})
    )
    with Scripted(MESH) as server:
        assert (
            call(server, photos, "--boxes", boxes, "--task", "hand", "--out", tmp_path / "out") == 0
        )
    ((_, path, _, body),) = server.seen
    assert "boxes=10.0%2C20.0%2C40.0%2C60.0" in path
    assert "hand_side=left" in path
    assert body == b"a.jpg"


def test_photos_that_fail_do_not_stop_the_others(photos, tmp_path, capsys):
    with Scripted(REFUSED, MESH) as server:
        assert call(server, photos, "--task", "body", "--out", tmp_path / "out") == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b_png.glb"]
    told = capsys.readouterr()
    assert "1 answered, 1 failed" in told.out
    assert "a.jpg: no image; send a JPEG" in told.err


def test_a_refused_key_ends_the_run_at_once(photos, tmp_path, capsys):
    refused = (401, {}, REFUSED[2].replace(b"bad_image", b"unauthorized"))
    with Scripted(refused) as server, pytest.raises(SystemExit):
        call(server, photos, "--task", "body", "--out", tmp_path / "out")
    assert len(server.seen) == 1
    assert "no image; send a JPEG" in capsys.readouterr().err
