"""Keys: made once, stored as hashes, asked for, counted, revoked while the service runs."""

import stat

import pytest

from metro_ray.errors import ConfigError
from metro_ray.serve.keys import (
    VARIABLE,
    Caller,
    KeyRing,
    RateLimiter,
    add_key,
    digest,
    make_key,
    parse_keys,
)
from metro_ray.serve.problems import ApiError
from metro_ray.serve.settings import Access

IMAGE = {"Content-Type": "image/jpeg"}


def new_key(path, name="alice", rate=None, burst=None):
    secret, key = make_key(name, rate, burst)
    add_key(path, key)
    return secret


def test_the_file_holds_hashes_that_only_its_owner_reads(tmp_path):
    path = tmp_path / "keys.yaml"
    secrets = [new_key(path, "alice"), new_key(path, "bob", 2.0, 4)]
    text = path.read_text()
    assert not any(secret in text for secret in secrets)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    alice, bob = parse_keys(text, "keys.yaml")
    assert alice.sha256 == digest(secrets[0])
    assert (bob.name, bob.requests_per_s, bob.burst) == ("bob", 2.0, 4)
    assert len(set(secrets)) == 2


def test_a_name_is_given_once(tmp_path):
    new_key(tmp_path / "keys.yaml")
    with pytest.raises(ConfigError, match="alice already"):
        new_key(tmp_path / "keys.yaml")


def test_only_keys_are_let_in(make_client, tmp_path, jpeg):
    path = tmp_path / "keys.yaml"
    secret = new_key(path)
    client = make_client(access={"keys_file": str(path)})
    for headers in ({}, {"X-API-Key": "mr_wrong"}, {"Authorization": f"Basic {secret}"}):
        answer = client.post("/v1/body", content=jpeg, headers=IMAGE | headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/v1/models", headers=headers).status_code == 401
        assert client.get("/metrics", headers=headers).status_code == 401
    for headers in ({"X-API-Key": secret}, {"Authorization": f"Bearer {secret}"}):
        answer = client.post("/v1/body", content=jpeg, headers=IMAGE | headers)
        assert answer.status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    assert client.get("/openapi.json").json()["security"]


def test_a_key_that_is_taken_out_is_refused_soon(tmp_path, monkeypatch):
    path = tmp_path / "keys.yaml"
    secret = new_key(path, "alice")
    new_key(path, "bob")
    ring = KeyRing(Access(keys_file=str(path)), {})
    monkeypatch.setattr("metro_ray.serve.keys._LOOK_EVERY_S", 0.0)
    assert ring.caller({"x-api-key": secret}).name == "alice"
    kept = path.read_text().splitlines()
    start = next(i for i, line in enumerate(kept) if "bob" in line)
    path.write_text("\n".join(["keys:", *kept[start:]]))
    with pytest.raises(ApiError, match="not accepted"):
        ring.caller({"x-api-key": secret})


def test_a_file_that_breaks_while_it_runs_changes_nothing(tmp_path, monkeypatch, caplog):
    path = tmp_path / "keys.yaml"
    secret = new_key(path)
    ring = KeyRing(Access(keys_file=str(path)), {})
    monkeypatch.setattr("metro_ray.serve.keys._LOOK_EVERY_S", 0.0)
    path.write_text("keys: [{name: x}]")
    assert ring.caller({"x-api-key": secret}).name == "alice"
    assert "stay as they were" in caplog.text


def test_keys_from_the_environment():
    secret, key = make_key("ci", None, None)
    ring = KeyRing(Access(), {VARIABLE: f"keys: [{{name: ci, sha256: {key.sha256}}}]"})
    assert not ring.is_open
    assert ring.caller({"authorization": f"bearer {secret}"}).name == "ci"


@pytest.mark.parametrize(
    "text", ["keys: []", "keys: [{name: a, sha256: plain}]", "key: 3", ": :", "[]"]
)
def test_keys_that_cannot_be_are_refused_without_repeating_them(text):
    with pytest.raises(ConfigError) as caught:
        KeyRing(Access(), {VARIABLE: text})
    assert "plain" not in str(caught.value)


def test_a_missing_file_is_no_open_door(tmp_path):
    with pytest.raises(ConfigError, match="serve-key"):
        KeyRing(Access(keys_file=str(tmp_path / "none.yaml")), {})


def test_the_rate_is_kept_over_time():
    now = [0.0]
    limiter = RateLimiter(lambda: now[0])
    caller = Caller("alice", 2.0, 3)
    for _ in range(3):
        limiter.take(caller)
    with pytest.raises(ApiError) as caught:
        limiter.take(caller)
    assert caught.value.retry_after_s == 1
    limiter.take(Caller("bob", 2.0, 3))  # has a rate of his own
    now[0] = 0.6
    limiter.take(caller)
    accepted = 0
    for _ in range(1000):
        now[0] += 0.05
        try:
            limiter.take(caller)
        except ApiError:
            continue
        accepted += 1
    assert accepted == pytest.approx(100, abs=3)  # 50 s at 2 a second


def test_clients_are_told_when_to_ask_again(make_client, tmp_path, jpeg):
    path = tmp_path / "keys.yaml"
    headers = IMAGE | {"X-API-Key": new_key(path, rate=0.1, burst=1)}
    client = make_client(access={"keys_file": str(path)})
    assert client.post("/v1/body", content=jpeg, headers=headers).status_code == 200
    answer = client.post("/v1/body", content=jpeg, headers=headers)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "rate_limited"
    assert 1 <= int(answer.headers["retry-after"]) <= 10
