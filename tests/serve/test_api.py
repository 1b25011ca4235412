"""What there is beside predictions: models, faces, health, metrics, documentation, the page."""

import json
import logging
import re

import numpy as np
import pytest

from metro_ray.bodies import load_body
from metro_ray.serve.schema import ModelList, PredictAnswer

IMAGE = {"Content-Type": "image/jpeg"}


def test_models_are_described(client, body_checkpoint):
    models = ModelList.model_validate_json(client.get("/v1/models").content).models
    body, hand = sorted(models, key=lambda card: card.task)
    assert (body.name, body.task, body.body_model, body.traffic) == ("body", "body", "anny_body", 1)
    assert body.checkpoint == body_checkpoint.name
    assert (body.num_vertices, len(body.joint_names)) == (12272, 14)
    assert (hand.num_vertices, len(hand.joint_names)) == (1596, 21)
    assert max(max(edge) for edge in hand.edges) == 20


def test_faces_are_those_of_the_body_model_and_cached(client):
    answer = client.get("/v1/models/hand/faces")
    faces = np.frombuffer(answer.content, "<i4").reshape(-1, 3)
    np.testing.assert_array_equal(faces, load_body("anny_hand").faces.numpy())
    left = client.get("/v1/models/hand/faces?hand_side=left")
    np.testing.assert_array_equal(np.frombuffer(left.content, "<i4").reshape(-1, 3), faces[:, ::-1])
    tag = answer.headers["etag"]
    assert tag != left.headers["etag"]
    again = client.get("/v1/models/hand/faces", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_ready_says_which_network_is_not(make_client, engines, body_checkpoint):
    from metro_ray.serve.local import LocalEngine
    from metro_ray.serve.settings import ModelSettings

    assert make_client().get("/readyz").json() == {
        "ready": True,
        "models": {"body": "ready", "hand": "ready"},
    }
    loading = LocalEngine("body", ModelSettings(checkpoint=str(body_checkpoint)))
    answer = make_client({"body": loading, "hand": engines["hand"]}).get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["models"] == {"body": "loading", "hand": "ready"}
    loading.close()


def value(text, name, **labels):
    for line in text.splitlines():
        if line.startswith(name + "{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
            return float(line.split()[-1])
    return 0.0


def test_metrics_count_requests_people_stages_and_errors(make_client, jpeg):
    client = make_client()
    client.post("/v1/body?boxes=1,2,60,80;5,5,60,90", content=jpeg, headers=IMAGE)
    client.post("/v1/body", content=b"no", headers=IMAGE)
    text = client.get("/metrics").text
    assert value(text, "metro_requests_total", route="/v1/body", status="200") == 1
    assert value(text, "metro_requests_total", route="/v1/body", status="400") == 1
    assert value(text, "metro_errors_total", code="bad_image") == 1
    assert value(text, "metro_people_total", task="body") == 2
    for stage in ("decode", "queue", "model", "encode", "total"):
        assert value(text, "metro_stage_seconds_count", task="body", stage=stage) == 1
    assert value(text, "metro_model_traffic", task="hand") == 1
    assert value(text, "metro_pending_requests") == 0


def test_the_access_log_has_a_line_of_json_for_each_request(client, jpeg, caplog):
    with caplog.at_level(logging.INFO, "metro_ray.serve.access"):
        client.post("/v1/body", content=jpeg, headers=IMAGE | {"X-Request-Id": "mine-1"})
        client.post("/v1/body", content=b"no", headers=IMAGE | {"X-Request-Id": "not\x20safe!"})
    good, bad = (json.loads(record.getMessage()) for record in caplog.records[-2:])
    assert good["request_id"] == "mine-1"
    assert (good["status"], good["path"], good["bytes_in"]) == (200, "/v1/body", len(jpeg))
    assert good["model_version"].endswith("-10")
    assert good["duration_ms"] > 0
    assert (bad["status"], bad["error"]) == (400, "bad_image")
    assert re.fullmatch("[0-9a-f]{32}", bad["request_id"])


def test_openapi_describes_what_is_answered(client, jpeg):
    schema = client.get("/openapi.json").json()
    post = schema["paths"]["/v1/body"]["post"]
    assert set(post["requestBody"]["content"]) == {
        "image/jpeg", "image/png", "image/webp", "multipart/form-data", "application/json",
    }  # fmt: skip
    assert "model/gltf-binary" in post["responses"]["200"]["content"]
    assert {"400", "401", "404", "408", "413", "415", "422", "429", "503"} <= set(post["responses"])
    names = {parameter["name"] for parameter in post["parameters"]}
    assert {"boxes", "hand_side", "focal_length", "intrinsics", "vertices", "format"} <= names
    for reference in set(re.findall(r'"\$ref": ?"#/([^"]+)"', json.dumps(schema))):
        place = schema
        for part in reference.split("/"):
            place = place[part]
    answer = client.post("/v1/body?vertices=true", content=jpeg, headers=IMAGE).json()
    fields = schema["components"]["schemas"]["Person"]["properties"]
    assert set(answer["images"][0]["people"][0]) == set(fields)
    assert PredictAnswer.model_validate(answer).model_dump(mode="json") == answer


def test_the_documentation_needs_no_other_host(client):
    page = client.get("/docs")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(linked) == 4
    for link in linked:
        assert not link.startswith(("http", "//"))
        assert client.get(f"/{link}").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/../schema.py", "/..%2fschema.py", "/docs/assets/..%2f..%2f..%2fapp.py", "/%2e%2e/app.py"],
)
def test_files_beside_the_pages_are_not_served(client, path):
    assert client.get(path).status_code == 404


def test_everything_forbids_guessing_types(client):
    for path in ("/healthz", "/v1/models", "/docs", "/v1/nothing"):
        assert client.get(path).headers["x-content-type-options"] == "nosniff"
