"""What is refused, with which status and code, and that the message says what to do."""

import base64
import struct
import threading
import time
import zlib

import pytest
from served import Blocked, encoded

IMAGE = {"Content-Type": "image/jpeg"}


def refused(response, status, code, *words):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert error["request_id"] == response.headers["x-request-id"]
    for word in words:
        assert word in error["message"]
    return error


def bomb(side=60_000):
    """A PNG of some hundred bytes that announces 3.6 gigapixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0" * 99))
        + chunk(b"IEND", b"")
    )


def test_what_is_no_image(client):
    error = client.post("/v1/body", content=b"GIF89a....", headers=IMAGE)
    refused(error, 400, "bad_image", "neither JPEG, PNG nor WebP", "convert")


def test_a_cut_image(client, jpeg):
    refused(client.post("/v1/body", content=jpeg[:2000], headers=IMAGE), 400, "bad_image", "broken")


def test_a_decompression_bomb_is_refused_by_its_header(client):
    start = time.perf_counter()
    answer = client.post("/v1/body", content=bomb(), headers=IMAGE)
    refused(answer, 413, "too_many_pixels", "60000 x 60000", "scale it down")
    assert time.perf_counter() - start < 1.0


def test_the_images_of_a_request_share_the_pixels_that_it_may_have(make_client, jpeg, photo):
    height, width = photo.shape[:2]
    client = make_client(limits={"max_pixels": int(2.5 * width * height)})
    image = {"data": base64.b64encode(jpeg).decode()}
    assert client.post("/v1/body", json={"images": [image] * 2}).status_code == 200
    answer = client.post("/v1/body", json={"images": [image] * 3})
    refused(answer, 413, "too_many_pixels", "images.2", f"{width} x {height}", "fewer images")


def test_a_stripe_that_would_grow_when_resized(client, photo):
    stripe = encoded(photo[:2].repeat(1, axis=0), "png")
    refused(client.post("/v1/body", content=stripe, headers=IMAGE), 400, "bad_image", "cut it")


def test_too_many_bytes_announced_or_sent(make_client, jpeg):
    small = make_client(limits={"max_body_bytes": 2048})
    refused(small.post("/v1/body", content=jpeg, headers=IMAGE), 413, "too_large", "2048")
    pieces = (jpeg[i : i + 500] for i in range(0, len(jpeg), 500))  # no Content-Length
    refused(small.post("/v1/body", content=pieces, headers=IMAGE), 413, "too_large", "2048")


def test_unknown_media_type_and_method_and_path(client, jpeg):
    answer = client.post("/v1/body", content=jpeg, headers={"Content-Type": "text/plain"})
    refused(answer, 415, "unsupported_media_type", "text/plain", "image/jpeg")
    refused(client.get("/v1/nothing"), 404, "not_found", "/docs")
    refused(client.get("/v1/body"), 405, "bad_request")


def test_accept_that_cannot_be_met(client, jpeg):
    headers = IMAGE | {"Accept": "text/html"}
    answer = client.post("/v1/body", content=jpeg, headers=headers)
    refused(answer, 406, "unsupported_media_type", "model/gltf-binary")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("boxes=1,2,3", ["box 0", "x0,y0,x1,y1"]),
        ("boxes=10,10,5,50", ["box 0", "x0 < x1"]),
        ("boxes=10,10,50,nan", ["box 0"]),
        ("boxes=5000,5000,5100,5100", ["box 0", "outside the picture"]),
        ("boxes=-4000,-4000,4000,4000", ["box 0", "4 times"]),
        ("boxes=;", ["no box"]),
        ("box=1,2,3,4", ["box", "boxes"]),
        ("hand_side=left", ["/v1/hand"]),
        ("hand_side=both", ["hand_side", "left"]),
        ("focal_length=-3", ["focal_length"]),
        ("intrinsics=1,2", ["fx,fy,cx,cy"]),
        ("intrinsics=0,9,1,1", ["1 pixel or more"]),
        ("focal_length=9&intrinsics=9,9,1,1", ["not both"]),
        ("format=stl", ["format", "glb"]),
    ],
)
def test_parameters_that_make_no_sense(client, jpeg, query, words):
    answer = client.post(f"/v1/body?{query}", content=jpeg, headers=IMAGE)
    refused(answer, 422, "bad_request", *words)


def test_forms(client, jpeg):
    answer = client.post("/v1/body", files={"photo": ("a.jpg", jpeg, "image/jpeg")})
    refused(answer, 422, "bad_request", "'image'", "photo")
    form = {"files": {"image": ("a.jpg", jpeg, "image/jpeg")}}
    answer = client.post("/v1/body", data={"boxs": "1,2,3,4"}, **form)
    refused(answer, 422, "bad_request", "boxs", "boxes")
    answer = client.post("/v1/body?format=obj", data={"format": "glb"}, **form)
    refused(answer, 422, "bad_request", "in the form and in the query")
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/body", content=b"--y\r\nno", headers=broken)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["code"] == "bad_request"


def test_json(make_client, client, jpeg):
    data = base64.b64encode(jpeg).decode()
    send = client.post
    json = {"Content-Type": "application/json"}
    refused(send("/v1/body", content=b"{", headers=json), 400, "bad_request")
    refused(send("/v1/body", json={"images": []}), 422, "bad_request", "images")
    refused(send("/v1/body", json={"images": [{"data": "%%"}]}), 400, "bad_request", "base64")
    answer = send("/v1/body", json={"images": [{"data": data, "url": "http://x"}]})
    refused(answer, 422, "bad_request", "images.0.url", "unknown field")
    two = {"images": [{"data": data}, {"data": base64.b64encode(b"no").decode()}]}
    refused(send("/v1/body", json=two), 400, "bad_image", "images.1")
    two = {"images": [{"data": data}] * 2}
    refused(send("/v1/body?format=glb", json=two), 422, "bad_request", "one image")
    answer = send("/v1/body?boxes=1,2,3,4", json={"images": [{"data": data}]})
    refused(answer, 422, "bad_request", "images[i]")
    few = make_client(limits={"max_images": 1, "max_people": 1})
    refused(few.post("/v1/body", json=two), 413, "too_large", "several requests")
    answer = few.post("/v1/body?boxes=1,2,30,40;1,2,30,40", content=jpeg, headers=IMAGE)
    refused(answer, 413, "too_large", "2 people")


def test_a_version_that_is_not_served(client, jpeg):
    headers = IMAGE | {"X-Model-Version": "0123456789-1"}
    answer = client.post("/v1/body", content=jpeg, headers=headers)
    refused(answer, 404, "not_found", "0123456789-1", "these are")


def test_hosts_of_others_are_not_answered_without_keys(client):
    answer = client.get("/healthz", headers={"Host": "evil.example:8000"})
    refused(answer, 400, "bad_request", "evil.example", "allowed_hosts")
    assert client.get("/healthz", headers={"Host": "127.0.0.1:8000"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"]
)
def test_forms_of_strangers_pages_are_not_answered_without_keys(client, jpeg, origin):
    form = {"files": {"image": ("a.jpg", jpeg, "image/jpeg")}, "headers": {"Origin": origin}}
    refused(client.post("/v1/body", **form), 403, "bad_request", origin, "allowed_hosts")
    jobs = {"files": {"files": ("a.jpg", jpeg, "image/jpeg")}, "data": {"task": "body"}}
    answer = client.post("/v1/jobs", **jobs, headers={"Origin": origin})
    refused(answer, 403, "bad_request", origin)


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "http://localhost:3000"])
def test_forms_of_pages_of_this_machine_are_answered(client, jpeg, origin):
    answer = client.post("/v1/body", content=jpeg, headers=IMAGE | {"Origin": origin})
    assert answer.status_code == 200


def test_overload_is_told_at_once_and_passes(make_client, engines, jpeg):
    blocked = Blocked(engines["body"])
    busy = make_client({"body": blocked}, limits={"max_pending": 2, "retry_after_s": 7})
    answers = []
    post = lambda: answers.append(busy.post("/v1/body", content=jpeg, headers=IMAGE))  # noqa: E731
    waiting = [threading.Thread(target=post) for _ in range(2)]
    for thread in waiting:
        thread.start()
    for _ in waiting:
        assert blocked.asked.acquire(timeout=20)
    start = time.perf_counter()
    answer = busy.post("/v1/body", content=jpeg, headers=IMAGE)
    took_s = time.perf_counter() - start
    refused(answer, 503, "overloaded", "7 s")
    assert answer.headers["retry-after"] == "7"
    assert took_s < 1.0
    blocked.let_go.set()
    for thread in waiting:
        thread.join(timeout=30)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert busy.post("/v1/body", content=jpeg, headers=IMAGE).status_code == 200


def test_a_request_that_takes_too_long_is_dropped(make_client, engines, jpeg):
    blocked = Blocked(engines["body"])
    slow = make_client({"body": blocked}, limits={"timeout_s": 0.3})
    answer = slow.post("/v1/body", content=jpeg, headers=IMAGE)
    refused(answer, 408, "timeout", "0.3 s")
    assert blocked.cancelled.is_set()


def test_faults_of_the_server_are_not_told(make_client, engines, jpeg, caplog):
    class Broken:
        async def predict(self, ask):
            raise RuntimeError("secret detail")

        async def status(self):
            return await engines["body"].status()

    answer = make_client({"body": Broken()}).post("/v1/body", content=jpeg, headers=IMAGE)
    error = refused(answer, 500, "internal", "request_id")
    assert "secret" not in error["message"]
    assert "secret detail" in caplog.text


def test_a_task_that_is_not_served(make_client, engines, jpeg):
    bodies = make_client({"body": engines["body"]})
    answer = bodies.post("/v1/hand", content=jpeg, headers=IMAGE)
    refused(answer, 404, "not_found", "hand is not served", "body")
    assert "/v1/hand" not in bodies.get("/openapi.json").json()["paths"]
