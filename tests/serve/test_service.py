"""A real service: Ray Serve on this machine, one for the module, asked through HTTP."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest

from metro_ray.serve.client import Client
from metro_ray.serve.schema import PredictAnswer

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

IMAGE = {"Content-Type": "image/jpeg"}


@pytest.fixture
def http(service):
    with httpx.Client(base_url=service[0], timeout=60) as client:
        yield client


def test_it_is_ready_and_says_what_it_serves(http):
    assert http.get("/healthz").json() == {"status": "alive"}
    assert http.get("/readyz").json()["ready"] is True
    cards = {card["task"]: card for card in http.get("/v1/models").json()["models"]}
    assert cards["body"]["body_model"] == "anny_body"
    assert cards["hand"]["body_model"] == "anny_hand"


def test_it_answers_as_the_networks_in_this_process(http, client, jpeg):
    for path in ("/v1/body?boxes=20,10,80,110;90,15,150,100", "/v1/hand?hand_side=left"):
        served = http.post(path, content=jpeg, headers=IMAGE)
        here = client.post(path, content=jpeg, headers=IMAGE)
        assert served.status_code == 200, served.text
        for one, other in zip(served.json()["images"], here.json()["images"], strict=True):
            for person, same in zip(one["people"], other["people"], strict=True):
                for a, b in zip(person["joints"], same["joints"], strict=True):
                    assert a == pytest.approx(b, abs=1e-4)


def test_requests_share_batches(http, jpeg):
    with ThreadPoolExecutor(12) as pool:
        post = lambda _: http.post("/v1/body", content=jpeg, headers=IMAGE)  # noqa: E731
        answers = list(pool.map(post, range(48)))
    assert {answer.status_code for answer in answers} == {200}
    text = http.get("/metrics").text
    batches = [line for line in text.splitlines() if line.startswith("metro_batch_size_bucket")]
    alone = next(
        float(line.split()[-1]) for line in batches if 'le="1.0"' in line and "body" in line
    )
    count = next(
        float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("metro_batch_size_count") and "body" in line
    )
    assert alone < 0.5 * count


def test_weights_change_under_load_without_a_failed_request(
    service, http, jpeg, other_body_checkpoint, body_checkpoint
):
    from ray.serve.schema import ServeDeploySchema

    from metro_ray.serve.start import deploy
    from metro_ray.serve.swap import with_choice

    url, config = service
    before = http.post("/v1/body", content=jpeg, headers=IMAGE).headers["x-model-version"]
    answers, stop = [], []

    def ask(_):
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop:
                answers.append(client.post("/v1/body", content=jpeg, headers=IMAGE))

    def wait_for(version):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if answers and answers[-1].headers.get("x-model-version") == version:
                return True
            time.sleep(0.05)
        return False

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(ask, number) for number in range(3)]
        try:
            changed = with_choice(config, "body", {"checkpoint": str(other_body_checkpoint)})
            deploy(ServeDeploySchema.model_validate(changed))
            from metro_ray.serve.sources import version_of

            assert wait_for(version_of(other_body_checkpoint))
            back = with_choice(config, "body", {"checkpoint": str(body_checkpoint)})
            deploy(ServeDeploySchema.model_validate(back))
            assert wait_for(before)
        finally:
            stop.append(True)
        for worker in workers:
            worker.result()
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        model = PredictAnswer.model_validate_json(answer.content).model
        assert model.version == answer.headers["x-model-version"]


def test_two_versions_share_the_requests(ray_session, service, http, jpeg, other_body_checkpoint):
    from metro_ray.serve.sources import version_of
    from metro_ray.serve.swap import answering, swap, wait_for

    candidate = {"candidate": str(other_body_checkpoint), "candidate_share": 0.5}
    url = swap(ray_session, "body", candidate)  # as `metro-ray serve-swap` does
    try:
        assert url == service[0]
        version, name = version_of(other_body_checkpoint), str(other_body_checkpoint)
        wait_for(url, "body", version, name, None, 60)
        cards = [c for c in http.get("/v1/models").json()["models"] if c["task"] == "body"]
        assert [card["traffic"] for card in cards] == [0.5, 0.5]
        seen = [
            http.post("/v1/body", content=jpeg, headers=IMAGE).headers["x-model-version"]
            for _ in range(40)
        ]
        assert {card["version"] for card in cards} == set(seen)
        asked = cards[1]["version"]
        headers = IMAGE | {"X-Model-Version": asked}
        pinned = [http.post("/v1/body", content=jpeg, headers=headers) for _ in range(5)]
        assert {answer.headers["x-model-version"] for answer in pinned} == {asked}
    finally:
        swap(ray_session, "body", {"candidate": None, "candidate_share": 0.0})
    end = time.monotonic() + 60
    while time.monotonic() < end and len(answering(url, "body", None).versions) != 1:
        time.sleep(0.2)
    assert answering(url, "body", None).versions == (cards[0]["version"],)


def test_a_job_runs_on_the_replicas(http, jpeg):
    files = [("files", (f"{n}.jpg", jpeg, "image/jpeg")) for n in range(3)]
    job = http.post("/v1/jobs", files=files, data={"task": "hand", "format": "npz"}).json()["id"]
    end = time.monotonic() + 60
    while time.monotonic() < end:
        told = http.get(f"/v1/jobs/{job}").json()
        if told["state"] not in ("queued", "running"):
            break
        time.sleep(0.2)
    assert (told["state"], told["done"]) == ("done", 3)
    assert http.get(f"/v1/jobs/{job}/result").content.startswith(b"PK")


def test_what_is_refused_is_refused_through_serve_too(http, service, jpeg):
    answer = http.post("/v1/body", content=b"no image", headers=IMAGE | {"X-Request-Id": "mine-7"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_image")
    assert answer.json()["error"]["request_id"] == "mine-7"
    assert answer.headers.get_list("x-request-id") == ["mine-7"]
    answer = http.post("/v1/body", content=b"no image", headers=IMAGE | {"X-Request-Id": "a b"})
    [told] = answer.headers.get_list("x-request-id")  # Serve's own, which takes anything
    assert answer.json()["error"]["request_id"] == told
    large = http.post("/v1/body", content=b"0" * (17 * 2**20), headers=IMAGE)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")


def test_a_replica_killed_under_load_comes_back_and_our_clients_see_no_error(service, http, jpeg):
    import ray

    def replica():
        named = ray.util.list_named_actors(all_namespaces=True)
        return {actor["name"] for actor in named if "#body#" in actor["name"]}

    over = threading.Event()

    def ask():
        answers = 0
        with Client(service[0], retries=8) as client:
            while not over.is_set():
                client.predict_body(jpeg)
                answers += 1
        return answers

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        time.sleep(2)
        [name] = replica()
        ray.kill(ray.get_actor(name, namespace="serve"), no_restart=True)
        end = time.monotonic() + 90
        while time.monotonic() < end and (name in replica() or not replica()):
            time.sleep(0.3)
        answer = http.post("/v1/body", content=jpeg, headers=IMAGE)
        over.set()
        found = [asked.result() for asked in asking]
    assert min(found) > 0
    assert answer.status_code == 200
    assert http.post("/v1/hand", content=jpeg, headers=IMAGE).status_code == 200
