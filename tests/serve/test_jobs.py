"""Jobs: many images or a video become a zip, others do not see them, they can be cancelled."""

import io
import json
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest
from served import Blocked

from metro_ray.serve.jobs import JobRunner
from metro_ray.serve.problems import ApiError
from metro_ray.serve.settings import Jobs, Limits


def wait(client, job, headers=None, until=("done", "failed", "cancelled")):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        told = client.get(f"/v1/jobs/{job}", headers=headers).json()
        if told["state"] in until:
            return told
        time.sleep(0.02)
    raise AssertionError(told)


@pytest.fixture
def jobs(make_client, tmp_path):
    """A client whose server keeps running between requests, as jobs need it."""
    with make_client(jobs={"folder": str(tmp_path / "jobs")}) as client:
        yield client


def image_files(*contents):
    return [("files", (f"photo {n}.jpg", data, "image/jpeg")) for n, data in enumerate(contents)]


def test_images_become_a_zip(jobs, jpeg, png, tmp_path):
    form = {"task": "body", "boxes": "20,10,80,110", "vertices": "true"}
    answer = jobs.post("/v1/jobs", files=image_files(jpeg, b"no image", png), data=form)
    assert answer.status_code == 202
    told = wait(jobs, answer.json()["id"])
    assert (told["state"], told["done"], told["total"]) == ("done", 3, 3)
    result = jobs.get(f"/v1/jobs/{told['id']}/result")
    assert result.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(result.content))
    assert sorted(archive.namelist()) == ["00000_photo_0.json", "00002_photo_2.json", "report.json"]
    (person,) = json.loads(archive.read("00000_photo_0.json"))["images"][0]["people"]
    alone = jobs.post(
        "/v1/body?boxes=20,10,80,110&vertices=true",
        content=jpeg,
        headers={"Content-Type": "image/jpeg"},
    ).json()["images"][0]["people"][0]
    assert person["joints"] == alone["joints"]
    report = json.loads(archive.read("report.json"))
    assert "neither JPEG" in report["failed"]["00001_photo_1"]
    assert len(report["model_versions"]) == 1
    assert jobs.delete(f"/v1/jobs/{told['id']}").status_code == 200
    assert jobs.get(f"/v1/jobs/{told['id']}").status_code == 404
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_video_becomes_a_file_a_frame(jobs, photo, tmp_path):
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (160, 120))
    for _ in range(5):
        writer.write(photo[:, :, ::-1].copy())
    writer.release()
    files = [("files", ("clip.mp4", path.read_bytes(), "video/mp4"))]
    answer = jobs.post("/v1/jobs", files=files, data={"task": "hand", "format": "glb"})
    told = wait(jobs, answer.json()["id"])
    assert (told["state"], told["done"]) == ("done", 5), told
    archive = zipfile.ZipFile(io.BytesIO(jobs.get(f"/v1/jobs/{told['id']}/result").content))
    assert archive.read("frame_000004.glb").startswith(b"glTF")


def test_a_list_of_other_files_is_no_video(jobs):
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
    answer = jobs.post(
        "/v1/jobs", files=[("files", ("a.mp4", playlist, "video/mp4"))], data={"task": "body"}
    )
    told = wait(jobs, answer.json()["id"])
    assert told["state"] == "failed"
    assert "neither JPEG" in told["error"]


def test_jobs_wait_for_each_other_and_can_be_cancelled(make_client, engines, jpeg, tmp_path):
    blocked = Blocked(engines["body"])
    settings = {"folder": str(tmp_path), "max_queued": 2}
    with make_client({"body": blocked}, jobs=settings) as jobs:
        send = lambda: jobs.post("/v1/jobs", files=image_files(jpeg), data={"task": "body"})  # noqa: E731
        first, second = send().json()["id"], send().json()["id"]
        assert blocked.asked.acquire(timeout=20)
        assert jobs.get(f"/v1/jobs/{first}").json()["state"] == "running"
        assert jobs.get(f"/v1/jobs/{second}").json()["state"] == "queued"
        full = send()
        assert (full.status_code, full.json()["error"]["code"]) == (503, "overloaded")
        early = jobs.get(f"/v1/jobs/{first}/result")
        assert "running" in early.json()["error"]["message"]
        assert jobs.delete(f"/v1/jobs/{first}").json()["state"] == "cancelled"
        assert blocked.cancelled.is_set()
        blocked.let_go.set()
        assert wait(jobs, second)["state"] == "done"


@pytest.mark.parametrize(
    ("form", "status", "word"),
    [
        ({}, 422, "task"),
        ({"task": "face"}, 422, "task"),
        ({"task": "body", "boxen": "1"}, 422, "boxen"),
        ({"task": "body", "hand_side": "left"}, 422, "/v1/hand"),
    ],
)
def test_what_cannot_be_a_job(jobs, jpeg, form, status, word, tmp_path):
    answer = jobs.post("/v1/jobs", files=image_files(jpeg), data=form)
    assert answer.status_code == status
    assert word in answer.json()["error"]["message"]
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_job_without_files(jobs):
    answer = jobs.post("/v1/jobs", data={"task": "body"}, files={"other": ("a", b"x")})
    assert answer.status_code == 422


def test_jobs_belong_to_the_key_that_made_them(make_client, jpeg, tmp_path):
    from metro_ray.serve.keys import add_key, make_key

    headers = []
    for name in ("alice", "bob"):
        secret, key = make_key(name, None, None)
        add_key(tmp_path / "keys.yaml", key)
        headers.append({"X-API-Key": secret})
    with make_client(access={"keys_file": str(tmp_path / "keys.yaml")}) as client:
        form = {"files": image_files(jpeg), "data": {"task": "body"}}
        job = client.post("/v1/jobs", headers=headers[0], **form).json()["id"]
        assert client.get(f"/v1/jobs/{job}", headers=headers[1]).status_code == 404
        assert client.delete(f"/v1/jobs/{job}", headers=headers[1]).status_code == 404
        assert wait(client, job, headers[0])["state"] == "done"
        assert client.get(f"/v1/jobs/{job}/result", headers=headers[1]).status_code == 404


@pytest.mark.parametrize("number", [1, 2])
def test_a_service_of_several_ingress_processes_says_that_it_takes_no_jobs(
    make_client, jpeg, number, tmp_path
):
    settings = {"ingress": {"replicas": number}, "jobs": {"folder": str(tmp_path)}}
    with make_client(**settings) as client:
        assert client.get("/v1/models").json()["jobs"] == (number == 1)
        answer = client.post("/v1/jobs", files=image_files(jpeg), data={"task": "body"})
        assert answer.status_code == (202 if number == 1 else 404)
        if number > 1:
            for told in (answer, client.get("/v1/jobs/x/result"), client.delete("/v1/jobs/x")):
                assert told.status_code == 404
                assert "serve with ingress.replicas: 1" in told.json()["error"]["message"]


def test_a_job_that_is_cancelled_while_it_writes_is_cancelled(jobs, jpeg, tmp_path, monkeypatch):
    writing, go_on = threading.Event(), threading.Event()

    def write_slowly(archive, name, content):
        with archive.open(name, "w") as file:
            writing.set()
            go_on.wait(20)
            file.write(content)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", write_slowly)
    answer = jobs.post("/v1/jobs", files=image_files(jpeg), data={"task": "body"})
    assert writing.wait(20)
    place = f"/v1/jobs/{answer.json()['id']}"
    with ThreadPoolExecutor(2) as two:  # an impatient client asks twice
        asked = [two.submit(jobs.delete, place) for _ in range(2)]
        time.sleep(0.3)
        go_on.set()
        told = [request.result().json() for request in asked]
    assert [(each["state"], each["error"]) for each in told] == [("cancelled", None)] * 2
    assert list((tmp_path / "jobs").iterdir()) == []


def test_uploads_that_have_not_come_yet_count_as_waiting(tmp_path):
    settings = Jobs(folder=str(tmp_path), max_queued=1)
    runner = JobRunner(None, settings, Limits())
    with runner.admitted() as folder:
        assert folder.is_dir()
        with pytest.raises(ApiError, match="too many requests are waiting"), runner.admitted():
            pass
    with pytest.raises(ConnectionError), runner.admitted():  # there is a place again
        raise ConnectionError
    assert list(tmp_path.iterdir()) == [folder]


def test_results_go_by_themselves(make_client, jpeg, tmp_path):
    with make_client(jobs={"folder": str(tmp_path / "jobs"), "keep_s": 1.0}) as client:
        answer = client.post("/v1/jobs", files=image_files(jpeg), data={"task": "body"})
        wait(client, answer.json()["id"])
        end = time.monotonic() + 20
        while list((tmp_path / "jobs").iterdir()):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert client.get(f"/v1/jobs/{answer.json()['id']}").status_code == 404


def test_a_video_of_too_many_pixels_is_refused(make_client, photo, tmp_path):
    path = tmp_path / "clip.mp4"
    height, width = photo.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (width, height))
    writer.write(photo)
    writer.release()
    limits = {"max_pixels": width * height - 1}
    with make_client(jobs={"folder": str(tmp_path / "jobs")}, limits=limits) as client:
        files = [("files", ("clip.mp4", path.read_bytes(), "video/mp4"))]
        answer = client.post("/v1/jobs", files=files, data={"task": "body"})
        told = wait(client, answer.json()["id"])
    assert told["state"] == "failed"
    assert f"{width} x {height} pixels are too large" in told["error"]
