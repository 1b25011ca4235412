"""`metro-ray call` against a server that answers as it is told."""

import json
import signal
import subprocess
import sys
import time

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


def told(state, done):
    return (200, {}, json.dumps({"id": "j1", "state": state, "done": done, "total": 2}).encode())


def test_a_video_becomes_a_job_and_photos_one_where_that_is_asked_for(
    photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("metro_ray.serve.client.BETWEEN_LOOKS_S", 0.01)
    (photos / "clip.mp4").write_bytes(b"film")
    job = [
        told("queued", 0),
        told("running", 1),
        told("done", 2),
        told("done", 2),
        (200, {}, b"zip"),
        told("done", 2),
    ]
    out = tmp_path / "out"
    with Scripted(*job, MESH) as server:
        assert (
            call(
                server, photos, "--task", "hand", "--hand", "left", "--out", out, "--format", "ply"
            )
            == 0
        )
    assert sorted(path.name for path in out.iterdir()) == ["a_jpg.ply", "b_png.ply", "clip_mp4.zip"]
    assert (out / "clip_mp4.zip").read_bytes() == b"zip"
    method, path, _, form = server.seen[0]
    assert (method, path, b"film" in form, b"left" in form, b"ply" in form) == (
        "POST",
        "/v1/jobs",
        True,
        True,
        True,
    )
    assert [(method, path) for method, path, *_ in server.seen[4:6]] == [
        ("GET", "/v1/jobs/j1/result"),
        ("DELETE", "/v1/jobs/j1"),
    ]
    assert "clip_mp4: 2 pictures" in capsys.readouterr().out
    with Scripted(*job, *job) as server:
        assert call(server, photos, "--task", "body", "--job", "--out", out) == 0
    assert sum(path == "/v1/jobs" for _, path, *_ in server.seen) == 2
    assert (out / "photos.zip").read_bytes() == b"zip"


def test_a_job_that_fails_is_told_and_taken_away(photos, tmp_path, capsys):
    failed = {
        "id": "j1",
        "state": "failed",
        "done": 2,
        "total": 2,
        "error": "none could be predicted",
    }
    failure = (200, {}, json.dumps(failed).encode())
    with Scripted(told("queued", 0), failure) as server, pytest.raises(SystemExit):
        call(server, photos, "--task", "body", "--job", "--out", tmp_path / "out")
    assert server.seen[-1][:2] == ("DELETE", "/v1/jobs/j1")
    assert "none could be predicted" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_jobs_take_no_file_of_boxes(photos, tmp_path, capsys):
    (tmp_path / "boxes.json").write_text('{"a.jpg": [[1, 2, 3, 4]]}')
    with Scripted(MESH) as server, pytest.raises(SystemExit):
        call(server, photos, "--job", "--boxes", tmp_path / "boxes.json")
    assert server.seen == []
    assert "leave --boxes out" in capsys.readouterr().err


def test_ctrl_c_cancels_the_job(photos, tmp_path):
    command = [sys.executable, "-m", "metro_ray.cli.main", "call", str(photos), "--job"]
    with Scripted(told("queued", 0), told("running", 1)) as server:
        out = ["--task", "body", "--out", str(tmp_path / "out"), "--url", server.url]
        process = subprocess.Popen([*command, *out], stderr=subprocess.PIPE, text=True)
        try:
            end = time.monotonic() + 60
            while len(server.seen) < 3:  # submitted, and looked at
                assert time.monotonic() < end
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert server.seen[-1][:2] == ("DELETE", "/v1/jobs/j1")
    assert list((tmp_path / "out").iterdir()) == []
