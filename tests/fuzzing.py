"""Sends damaged requests and looks whether the service is well afterwards."""

import threading
import time
from collections import Counter

import httpx2 as httpx
import pytest
from damaged import damaged
from senders import Sender

from metro_ray.serve.schema import ErrorAnswer

NUM_SENDERS = 3


def send_all(address, whole, numbers):
    """Statuses of damaged requests, sent by several at once; each refusal must be in words."""
    numbers = iter(numbers)
    lock = threading.Lock()
    statuses, wrong = Counter(), []

    def work():
        sender = Sender(address)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            try:
                status, headers, body = sender.send(damaged(whole, number))
                if status >= 400:
                    known = ErrorAnswer.model_validate_json(body)
                    assert known.error.request_id == headers["x-request-id"]
                    assert known.error.message
                assert status < 500, body
                statuses[status] += 1
            except Exception as error:  # noqa: BLE001 - told with its number
                wrong.append((number, repr(error)[:400]))
        sender.close()

    threads = [threading.Thread(target=work) for _ in range(NUM_SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, f"{len(wrong)}, such as {wrong[:5]}"
    return statuses


def check_still_well(address, whole, expected):
    """A good request is answered as before, nothing is pending, and no answer was the server's fault."""
    base = f"http://{address[0]}:{address[1]}"
    with httpx.Client(base_url=base, timeout=30) as http:
        answer = http.post(
            "/v1/body", content=whole["image/png"], headers={"Content-Type": "image/png"}
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["images"] == nearly(expected)
        end = time.monotonic() + 10
        while True:
            lines = http.get("/metrics").text.splitlines()
            if any(
                line.startswith("metro_pending_requests{") and line.endswith(" 0.0")
                for line in lines
            ):
                break
            assert time.monotonic() < end, [line for line in lines if "pending" in line]
            time.sleep(0.1)
    faults = [
        line for line in lines if line.startswith("metro_requests_total{") and 'status="5' in line
    ]
    assert faults == []


def nearly(value):
    """Numbers of an answer as near as replicas with other thread counts agree."""
    if isinstance(value, dict):
        return {key: nearly(each) for key, each in value.items()}
    if isinstance(value, list):
        return [nearly(each) for each in value]
    return pytest.approx(value, rel=1e-3, abs=1e-3) if isinstance(value, float) else value


def good_answer(client, whole):
    answer = client.post(
        "/v1/body", content=whole["image/png"], headers={"Content-Type": "image/png"}
    )
    return answer.json()["images"]
