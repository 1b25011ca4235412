"""What a real service bears: damaged requests, and its operator's commands, right and wrong ones."""

import os
import shutil
import subprocess
import sys
import time
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from damaged import pictures, raw_requests
from fuzzing import check_still_well, good_answer, send_all
from live import Scripted
from senders import status_of_raw

from metro_ray.errors import ResourceError
from metro_ray.serve.sources import version_of
from metro_ray.serve.swap import answering, swap

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

NUM_DAMAGED = 800


def replicas():
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return sorted(actor["name"] for actor in named if "metro_ray#" in actor["name"])


@pytest.fixture
def swap_command(ray_session, service):
    """Runs `metro-ray serve-swap`; its status and what it prints."""

    def run(*arguments, dashboard=ray_session):
        command = [sys.executable, "-m", "metro_ray.cli.main", "serve-swap", *map(str, arguments)]
        environment = os.environ | {"RAY_DASHBOARD_ADDRESS": dashboard}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
        return done.returncode, done.stdout + done.stderr

    return run


def shares(url):
    models = httpx.get(f"{url}/v1/models", timeout=30).json()["models"]
    return {card["version"]: card["traffic"] for card in models if card["task"] == "body"}


def wait_for_shares(url, expected):
    end = time.monotonic() + 30
    while shares(url) != expected and time.monotonic() < end:
        time.sleep(0.2)
    assert shares(url) == expected


def test_weights_are_swapped_shared_and_taken_back_by_command(
    service, swap_command, body_checkpoint, other_body_checkpoint
):
    url, _ = service
    first, second = version_of(body_checkpoint), version_of(other_body_checkpoint)
    began = replicas()
    status, said = swap_command("body", other_body_checkpoint)
    assert (status, f"body is answered by {second}" in said) == (0, True), said
    wait_for_shares(url, {second: 1.0})
    status, said = swap_command("body", body_checkpoint)  # back
    assert status == 0, said
    wait_for_shares(url, {first: 1.0})
    status, said = swap_command("body", "--candidate", other_body_checkpoint, "--share", "0.25")
    assert status == 0, said
    wait_for_shares(url, {first: 0.75, second: 0.25})
    status, said = swap_command("body", "--drop-candidate")
    assert status == 0, said
    wait_for_shares(url, {first: 1.0})
    assert replicas() == began, "nothing was restarted"


def test_weights_that_cannot_be_loaded_change_nothing(
    service, swap_command, body_checkpoint, jpeg, tmp_path
):
    url, _ = service
    first = version_of(body_checkpoint)
    broken = shutil.copytree(body_checkpoint, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    status, said = swap_command("body", broken, "--timeout", "60")
    assert status == 2, said
    assert f"a replica cannot load {broken}: " in said
    assert "What answered before goes on answering" in said
    assert "body" in httpx.get(f"{url}/v1/models").json()["problems"]
    assert shares(url) == {first: 1.0}
    answer = httpx.post(
        f"{url}/v1/body", content=jpeg, headers={"Content-Type": "image/jpeg"}, timeout=30
    )
    assert (answer.status_code, answer.headers["x-model-version"]) == (200, first)
    assert swap_command("body", body_checkpoint)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("body",), "nothing to change"),
        (("body", "--share", "0.5"), "no candidate is named"),
        (("body", "--candidate", "x", "--share", "7"), "less than or equal to 1"),
    ],
)
def test_commands_that_make_no_sense_change_nothing(
    service, swap_command, body_checkpoint, arguments, words
):
    status, said = swap_command(*arguments)
    assert (status, words in said) == (2, True), said
    assert answering(service[0], "body", None).versions == (version_of(body_checkpoint),)


def test_a_dashboard_that_is_not_there_is_told(swap_command, body_checkpoint):
    status, said = swap_command("body", body_checkpoint, dashboard="http://127.0.0.1:9")
    assert (status, "no Ray cluster takes this at http://127.0.0.1:9" in said) == (2, True), said


def test_a_token_that_is_refused_is_told():
    with (
        Scripted((401, {}, b"Unauthorized")) as server,
        pytest.raises(ResourceError, match="RAY_AUTH_TOKEN"),
    ):
        swap(server.url, "body", {"checkpoint": "x"})


def test_damaged_requests_are_refused_through_serve_too(service, client, photo, record_property):
    parts = urlsplit(service[0])
    address = parts.hostname, parts.port
    whole = pictures(photo)
    began = replicas()
    statuses = send_all(address, whole, range(50_000, 50_000 + NUM_DAMAGED))
    raw = [status_of_raw(address, data, is_due) for data, is_due in raw_requests(whole)]
    record_property("statuses", f"{dict(statuses)}, without HTTP {raw}")
    assert all(status is None or 400 <= status < 500 for status in raw), raw
    check_still_well(address, whole, good_answer(client, whole))
    assert replicas() == began, "no replica died"
