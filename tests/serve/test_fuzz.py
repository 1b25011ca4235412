"""Ten thousand requests as no honest client sends them: refused with words, and nothing is left behind."""

import gc
import json
import time
from collections import Counter
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from damaged import pictures, raw_requests
from fuzzing import check_still_well, good_answer, send_all
from live import running
from senders import dripped, status_of_raw
from served import local_args

from metro_ray.serve.api import create_api
from metro_ray.serve.schema import ErrorAnswer

MEMORY_MARGIN_BYTES = 48 * 2**20
"""That the process may grow by between the first tenth and the end of the damage."""
LIMITS = {"timeout_s": 5, "max_people": 32}


@pytest.fixture
def api(engines, body_checkpoint, hand_checkpoint, tmp_path):
    folder = tmp_path / "jobs"
    args = local_args(
        body=body_checkpoint, hand=hand_checkpoint, limits=LIMITS, jobs={"folder": str(folder)}
    )
    return create_api(engines, args)


@pytest.fixture
def address(api):
    with running(api) as url:
        parts = urlsplit(url)
        yield parts.hostname, parts.port


def resident_bytes():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize(
    "rounds", [pytest.param(1, id="300"), pytest.param(34, id="10000", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(600)
def test_damaged_requests_are_refused_and_leave_nothing_behind(
    address, client, photo, rounds, tmp_path, record_property
):
    whole = pictures(photo)
    expected = good_answer(client, whole)
    statuses, raw, memory = Counter(), Counter(), []
    per_round = 280
    for turn in range(rounds):
        statuses += send_all(address, whole, range(turn * per_round, (turn + 1) * per_round))
        for data, is_due in raw_requests(whole):
            status = status_of_raw(address, data, is_due)
            assert status is None or 400 <= status < 500, (status, data[:200])
            raw[status] += 1
        check_still_well(address, whole, expected)
        memory.append(resident_bytes())
    assert statuses.keys() > {200, 400, 404, 413, 415, 422}
    assert raw[400] >= 10 * rounds
    grown = memory[-1] - memory[rounds // 10]
    record_property("statuses", f"{dict(statuses)}, without HTTP {dict(raw)}")
    record_property("grown_mib", round(grown / 2**20, 1))
    assert grown < MEMORY_MARGIN_BYTES
    with httpx.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=30) as http:
        end = time.monotonic() + 30
        while list((tmp_path / "jobs").glob("metro-job-*/upload*")) and time.monotonic() < end:
            http.get("/healthz")
            time.sleep(0.2)
    assert list((tmp_path / "jobs").glob("metro-job-*/upload*")) == []


@pytest.mark.parametrize("path", ["/v1/body", "/v1/jobs"])
@pytest.mark.parametrize("kind", ["image/jpeg", "multipart/form-data; boundary=B"])
def test_a_client_that_goes_amid_its_upload_is_no_fault_of_the_server(
    address, photo, caplog, path, kind
):
    start = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 9000\r\n\r\n"
    begun = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\nabc'
    caplog.set_level("INFO", "metro_ray.serve.access")
    status_of_raw(address, start.encode() + begun, is_due=False)
    end = time.monotonic() + 10
    while not any(r.name == "metro_ray.serve.access" for r in caplog.records):
        assert time.monotonic() < end
        time.sleep(0.02)
    records = [
        json.loads(r.getMessage()) for r in caplog.records if r.name == "metro_ray.serve.access"
    ]
    assert [record["status"] < 500 for record in records] == [True]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("value", ["1e308", "1e-300", "inf", "0"])
@pytest.mark.parametrize(
    "path",
    ["/v1/body?focal_length={}", "/v1/body?intrinsics={},9,9,9", "/v1/hand?boxes=0,0,{},1e9"],
)
def test_numbers_from_which_nothing_finite_follows_are_refused(client, jpeg, path, value):
    answer = client.post(path.format(value), content=jpeg, headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 422, answer.text


IMAGE = "image/jpeg"
FORM = "multipart/form-data; boundary=B"
PART = b'--B\r\nContent-Disposition: form-data; name="{}"; filename="a.jpg"\r\n\r\nabc'


@pytest.mark.parametrize("piece", [b"", b"x"], ids=["stalled", "dripped"])
@pytest.mark.parametrize(
    ("path", "kind", "begun"),
    [
        ("/v1/body", IMAGE, b"a"),
        ("/v1/body", FORM, PART.replace(b"{}", b"image")),
        ("/v1/jobs", FORM, PART.replace(b"{}", b"files")),
    ],
    ids=["image", "form", "job"],
)
def test_a_body_that_never_ends_is_ended(make_client, tmp_path, path, kind, begun, piece):
    client = make_client(limits={"timeout_s": 0.5}, jobs={"folder": str(tmp_path)})
    start = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 9000\r\n\r\n"
    with running(client.app) as url:
        parts = urlsplit(url)
        answer = dripped((parts.hostname, parts.port), start.encode() + begun, piece)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close" in head.lower()
    assert ErrorAnswer.model_validate_json(body).error.code == "timeout"
    assert list(tmp_path.iterdir()) == [], "nothing of the upload is kept"


def test_an_upload_may_take_longer_than_a_request_if_it_goes_on(make_client, jpeg, tmp_path):
    settings = {"folder": str(tmp_path), "min_upload_bytes_per_s": 1000}
    client = make_client(limits={"timeout_s": 2.0}, jobs=settings)
    end = b'\r\n--B\r\nContent-Disposition: form-data; name="task"\r\n\r\nbody\r\n--B--\r\n'
    whole = PART.replace(b"{}", b"files") + jpeg + bytes(16_000) + end
    num_pieces = 8
    size = -(-len(whole) // num_pieces)

    def pieces():
        for number in range(num_pieces):
            time.sleep(0.4)
            yield whole[number * size : (number + 1) * size]

    with running(client.app) as url:
        answer = httpx.post(f"{url}/v1/jobs", content=pieces(), headers={"Content-Type": FORM})
    assert answer.status_code == 202, answer.text
