"""The client: what it brings home from the real API, and how it bears a server that misbehaves."""

import asyncio
import json
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from live import Scripted, running
from served import local_args

from metro_ray.errors import ConfigError, DataError, RequestError
from metro_ray.serve import client_base
from metro_ray.serve.api import create_api
from metro_ray.serve.client import AsyncClient, Client
from metro_ray.serve.client_results import read_npz
from metro_ray.serve.schema import PredictAnswer

BOXES = [[20, 10, 80, 110], [90, 15, 150, 100]]
ERROR = {
    "error": {"code": "overloaded", "message": "too many wait; come again", "request_id": "r1"}
}
BUSY = (503, {"Retry-After": "0"}, json.dumps(ERROR).encode())
DONE = (200, {}, b"mesh")


@pytest.fixture(scope="module")
def url(engines, body_checkpoint, hand_checkpoint):
    args = local_args(body=body_checkpoint, hand=hand_checkpoint)
    with running(create_api(engines, args)) as address:
        yield address


@pytest.fixture
def client(url):
    with Client(url) as made:
        yield made


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(client_base, "FIRST_PAUSE_S", 0.01)


def test_people_of_a_photo_are_those_of_the_json_answer(client, jpeg):
    (image,) = client.predict_body(jpeg, BOXES, focal_length=300)
    told = client.predict_file("body", jpeg, BOXES, format="json", focal_length=300)
    expected = PredictAnswer.model_validate_json(told)
    assert (image.width, image.height) == (160, 120)
    assert image.model_version == expected.model.version
    assert len(image.request_id) == 32
    for person, wanted in zip(image.people, expected.images[0].people, strict=True):
        np.testing.assert_allclose(person.box, wanted.box)
        np.testing.assert_allclose(person.joints, wanted.joints, atol=1e-5)
        np.testing.assert_allclose(person.joints_2d, wanted.joints_2d, atol=1e-2)
        np.testing.assert_allclose(person.translation, wanted.camera_full.translation, atol=1e-4)
        np.testing.assert_allclose(person.intrinsics, [300, 300, 79.5, 59.5])
        np.testing.assert_allclose(person.crop_to_image, wanted.crop_to_image, atol=1e-6)
        assert person.joint_names == tuple(wanted.joint_names)
        assert person.vertices.shape[1] == 3
        assert person.faces.max() == len(person.vertices) - 1
        assert person.hand_side is None
    assert client.retries == 0


def test_several_images_go_in_one_request(client, jpeg, photo, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg)
    images = client.predict_body([path, jpeg, photo], [None, BOXES, BOXES[:1]])
    assert [len(image.people) for image in images] == [1, 2, 1]
    alone = client.predict_body(path)[0]
    np.testing.assert_allclose(images[0].people[0].vertices, alone.people[0].vertices, atol=1e-5)
    (pixels,) = client.predict_body(photo, BOXES[:1])
    np.testing.assert_allclose(images[2].people[0].vertices, pixels.people[0].vertices, atol=1e-5)


def test_a_left_hand_has_turned_faces(client, jpeg):
    (left,) = client.predict_hand(jpeg, hand_side="left")
    (right,) = client.predict_hand(jpeg, hand_side="right")
    assert (left.people[0].hand_side, right.people[0].hand_side) == ("left", "right")
    np.testing.assert_array_equal(left.people[0].faces, right.people[0].faces[:, ::-1])


def test_files_and_models(client, jpeg, tmp_path):
    (tmp_path / "two.glb").write_bytes(client.predict_file("body", jpeg, BOXES, format="glb"))
    assert len(trimesh.load_scene(tmp_path / "two.glb").geometry) == 2
    assert {card.task for card in client.models()} == {"body", "hand"}
    assert client.ready()


def test_async_clients_ask_at_the_same_time(url, client, jpeg):
    async def ask():
        async with AsyncClient(url) as other:
            assert await other.ready()
            several = [other.predict_body(jpeg, BOXES), other.predict_hand(jpeg, hand_side="left")]
            return await asyncio.gather(*several)

    (body,), (hand,) = asyncio.run(ask())
    (expected,) = client.predict_body(jpeg, BOXES)
    np.testing.assert_allclose(body.people[1].vertices, expected.people[1].vertices, atol=1e-5)
    assert hand.people[0].hand_side == "left"


def test_a_refusal_keeps_the_servers_words_and_is_not_repeated(client):
    with pytest.raises(RequestError, match="send the whole file") as caught:
        client.predict_body(b"\xff\xd8\xff no picture")
    assert (caught.value.code, caught.value.status) == ("bad_image", 400)
    assert len(caught.value.request_id) == 32
    assert client.retries == 0


@pytest.mark.parametrize(
    ("images", "boxes", "words"),
    [
        ([], None, "no image"),
        ("nowhere.jpg", None, "nowhere.jpg does not exist"),
        ([b"a", b"b"], [BOXES], "1 images, but 2 images"),
        (np.zeros((4, 4)), None, "float64 with shape"),
    ],
)
def test_what_cannot_be_sent_is_refused_here(client, images, boxes, words):
    with pytest.raises(DataError, match=words):
        client.predict_body(images, boxes)


def test_a_busy_server_is_asked_again_when_it_says():
    later = (429, {"Retry-After": "1"}, BUSY[2])
    with Scripted(BUSY, later, DONE) as server, Client(server.url, "mr_key") as client:
        begin = time.monotonic()
        assert client.predict_file("body", b"photo") == b"mesh"
        assert time.monotonic() - begin >= 1.0
        assert client.retries == 2
    assert len(server.seen) == 3
    assert {(method, body) for method, _, _, body in server.seen} == {("POST", b"photo")}
    assert {headers["Authorization"] for _, _, headers, _ in server.seen} == {"Bearer mr_key"}


def test_a_dropped_connection_is_tried_again():
    with Scripted("drop", "drop", DONE) as server, Client(server.url) as client:
        assert client.predict_file("hand", b"photo", format="ply") == b"mesh"
        assert client.retries == 2


def test_async_retries_count_too():
    async def ask(server):
        async with AsyncClient(server.url) as client:
            return await client.predict_file("body", b"photo"), client.retries

    with Scripted("drop", BUSY, DONE) as server:
        assert asyncio.run(ask(server)) == (b"mesh", 2)


def test_it_gives_up_after_as_many_retries_as_it_has():
    with Scripted(BUSY) as server, Client(server.url, retries=2) as client:
        with pytest.raises(RequestError, match="too many wait") as caught:
            client.predict_file("body", b"photo")
        assert (caught.value.code, caught.value.request_id) == ("overloaded", "r1")
        assert len(server.seen) == 3


def test_it_does_not_wait_for_hours():
    later = (503, {"Retry-After": "3600"}, BUSY[2])
    with Scripted(later) as server, Client(server.url) as client:
        with pytest.raises(RequestError) as caught:
            client.models()
        assert caught.value.retry_after_s == 3600
        assert len(server.seen) == 1


def test_a_slow_server_is_told_from_one_that_is_not_there():
    with Scripted(60.0) as server, Client(server.url, timeout=0.2, retries=1) as client:
        with pytest.raises(RequestError, match="longer timeout"):
            client.models()
        end = time.monotonic() + 30
        while len(server.seen) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        assert len(server.seen) == 2
    with Client(server.url, retries=1) as client:
        with pytest.raises(RequestError, match="is the server running"):
            client.models()
        assert client.retries == 1
        assert not client.ready()


def test_a_job_is_never_submitted_twice(tmp_path):
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"photo")
    job = (202, {}, json.dumps({"id": "j1", "state": "queued", "done": 0, "total": 1}).encode())
    with Scripted(BUSY, job) as server, Client(server.url) as client:
        assert client.submit_job("body", [photo]).id == "j1"
        assert b'name="task"' in server.seen[1][3]
        assert b"photo" in server.seen[1][3]
    with Scripted("drop", job) as server, Client(server.url) as client:
        with pytest.raises(RequestError, match="did not answer"):
            client.submit_job("body", [photo])
        assert len(server.seen) == 1


def test_a_job_is_waited_for_and_fetched_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("metro_ray.serve.client.BETWEEN_LOOKS_S", 0.01)

    def told(**fields):
        record = {"id": "j1", "state": "running", "done": 1, "total": 2} | fields
        return (200, {}, json.dumps(record).encode())

    cut = (200, {"Content-Length": "9"}, b"half")
    steps = [told(), told(done=2, state="done"), cut, (200, {}, b"all of it")]
    with Scripted(*steps) as server, Client(server.url) as client:
        assert client.wait_for_job("j1").done == 2
        path = client.download_job("j1", tmp_path / "result.zip")
        assert path.read_bytes() == b"all of it"
        assert client.retries == 1
    assert [file.name for file in tmp_path.iterdir()] == ["result.zip"]
    failed = told(state="failed", error="frame 3 is broken")
    with (
        Scripted(failed) as server,
        Client(server.url) as client,
        pytest.raises(RequestError, match="frame 3 is broken"),
    ):
        client.wait_for_job("j1")


@pytest.mark.slow
def test_jobs_of_the_real_api(client, jpeg, tmp_path):
    photos = [tmp_path / f"{name}.jpg" for name in "ab"]
    for photo in photos:
        photo.write_bytes(jpeg)
    job = client.wait_for_job(client.submit_job("body", photos, format="ply").id, timeout_s=120)
    assert (job.state, job.done, job.total) == ("done", 2, 2)
    with zipfile.ZipFile(client.download_job(job.id, tmp_path / "result.zip")) as result:
        assert sum(name.endswith(".ply") for name in result.namelist()) == 2
    client.cancel_job(job.id)
    with pytest.raises(RequestError) as caught:
        client.job("no-such-job")
    assert (caught.value.status, client.retries) == (404, 0)


def test_another_kind_of_server_is_recognised():
    with (
        Scripted((404, {}, b"<html>")) as server,
        Client(server.url) as client,
        pytest.raises(RequestError, match="is this a metro_ray server"),
    ):
        client.models()
    with (
        Scripted((200, {}, b"<html>")) as server,
        Client(server.url) as client,
        pytest.raises(RequestError, match="not the NPZ"),
    ):
        client.predict_body(b"photo")


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="http://127"):
        Client("localhost:8000")
    with pytest.raises(ConfigError, match="0 or more"):
        Client(retries=-1)


@pytest.fixture(scope="module")
def npz(url, jpeg):
    with Client(url) as client:
        return client.predict_file("hand", jpeg, format="npz")


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_answer_never_passes_for_a_whole_one(npz, share):
    cut = int(share * len(npz))
    with pytest.raises(RequestError, match="not the NPZ"):
        read_npz(npz[:cut], "hand", "r1")


def test_the_client_imports_neither_ray_nor_torch():
    block = "import sys; sys.modules.update(ray=None, fastapi=None, torch=None, cv2=None);"
    done = subprocess.run(
        [sys.executable, "-c", f"{block} import metro_ray.serve.client"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
