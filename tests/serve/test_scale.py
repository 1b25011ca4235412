"""Replicas come with load and go without it, down to none, and nobody is refused meanwhile."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest
from live import free_port
from served import local_args

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

NUM_CLIENTS = 8
REPLICAS = {
    "min_replicas": 0, "max_replicas": 2, "target_ongoing_requests": 1,
    "upscale_delay_s": 0.5, "downscale_delay_s": 3, "look_back_s": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def url(ray_session, body_checkpoint):
    """A service of bodies that sleeps when nobody asks."""
    from metro_ray.serve.start import deploy_config, running

    args = local_args(body=body_checkpoint, limits={"timeout_s": 120}).model_dump(
        exclude_unset=True
    )
    args["body"] |= {"replicas": REPLICAS, "max_batch_size": 1, "cpu_threads": 1}
    from metro_ray.serve.settings import read_args

    with running(deploy_config(read_args(args), port=free_port()), timeout_s=120) as address:
        yield address


def num_running():
    from ray import serve
    from ray.serve.schema import ReplicaState

    body = serve.status().applications["metro_ray"].deployments["body"]
    return body.replica_states.get(ReplicaState.RUNNING, 0)


def wait_for(number, seconds):
    end = time.monotonic() + seconds
    while num_running() != number:
        assert time.monotonic() < end, f"{num_running()} replicas after {seconds} s, not {number}"
        time.sleep(0.2)


def test_replicas_follow_the_load_from_none_to_two_and_back(url, jpeg):
    statuses, stop = [], []

    def ask(client):
        answer = client.post("/v1/body", content=jpeg, headers={"Content-Type": "image/jpeg"})
        statuses.append(answer.status_code)

    def keep_asking(_):
        with httpx.Client(base_url=url, timeout=150) as client:
            while not stop:
                ask(client)

    wait_for(0, 90)
    with httpx.Client(base_url=url, timeout=150) as client:
        assert client.get("/readyz").json() == {"ready": True, "models": {"body": "ready"}}
        ask(client)  # wakes it
    assert statuses == [200]
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        workers = [pool.submit(keep_asking, number) for number in range(NUM_CLIENTS)]
        try:
            wait_for(2, 90)
            num_before = len(statuses)
            time.sleep(2)
            assert len(statuses) > num_before
        finally:
            stop.append(True)
        for worker in workers:
            worker.result()
    wait_for(0, 90)
    with httpx.Client(base_url=url, timeout=150) as client:
        ask(client)
    assert set(statuses) == {200}
