"""What clients get for images: every way to ask, every format, the same people as `Predictor` finds."""

import base64
import io
import zipfile

import cv2
import numpy as np
import pytest
import trimesh
from served import encoded

from metro_ray.inference import Predictor
from metro_ray.serve.schema import PredictAnswer

BOXES = "20,10,80,110;90,15,150,100"


def ask(client, data, path="/v1/body", kind="image/jpeg", **query):
    response = client.post(path, content=data, headers={"Content-Type": kind}, params=query)
    assert response.status_code == 200, response.text
    return response


@pytest.fixture(scope="module")
def expected(body_checkpoint, photo, jpeg):
    """The two people of BOXES as the predictor without any server finds them."""
    from metro_ray.geometry.boxes import box_from_rectangle

    predictor = Predictor.from_checkpoint(body_checkpoint, precision="fp32")
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    boxes = [box_from_rectangle(20, 10, 60, 100), box_from_rectangle(90, 15, 60, 85)]
    return predictor.predict([np.ascontiguousarray(image)] * 2, boxes)


def test_a_raw_image_with_boxes(client, jpeg, expected):
    response = ask(client, jpeg, boxes=BOXES, vertices=True)
    answer = PredictAnswer.model_validate_json(response.content)
    (image,) = answer.images
    assert (image.width, image.height) == (160, 120)
    assert [person.box for person in image.people] == [(20, 10, 80, 110), (90, 15, 150, 100)]
    for person, result in zip(image.people, expected, strict=True):
        np.testing.assert_allclose(person.vertices, result.vertices, atol=2e-5)
        np.testing.assert_allclose(person.joints, result.joints, atol=2e-5)
        np.testing.assert_allclose(person.joints_2d, result.joints_px[:, :2], atol=0.01)
        assert person.camera.scale == pytest.approx(result.camera[0], abs=1e-5)
        assert person.joint_names == list(result.joint_set.names)
        assert person.hand_side is None


def test_every_answer_names_version_request_and_times(client, jpeg):
    response = ask(client, jpeg)
    answer = PredictAnswer.model_validate_json(response.content)
    assert response.headers["x-model-version"] == answer.model.version
    assert answer.model.version.endswith("-10")
    assert len(response.headers["x-request-id"]) == 32
    times = answer.timings_ms
    parts = times.decode + times.queue + times.model + times.encode
    assert 0 < parts <= times.total + 0.1
    assert "model;dur=" in response.headers["server-timing"]


def test_a_form_and_json_say_the_same_as_raw(client, jpeg):
    raw = ask(client, jpeg, boxes=BOXES, focal_length=200, vertices=True).json()
    form = client.post(
        "/v1/body",
        files={"image": ("photo.jpg", jpeg, "image/jpeg")},
        data={"boxes": BOXES, "focal_length": "200", "vertices": "true"},
    ).json()
    image = {
        "data": base64.b64encode(jpeg).decode(),
        "boxes": [[20, 10, 80, 110], [90, 15, 150, 100]],
        "focal_length": 200,
    }
    json = client.post("/v1/body", json={"images": [image], "vertices": True}).json()
    assert raw["images"] == form["images"] == json["images"]


def test_several_images_in_one_request(client, jpeg, png):
    images = [
        {"data": base64.b64encode(jpeg).decode()},
        {"data": base64.b64encode(png).decode(), "boxes": [[20, 10, 80, 110]]},
    ]
    answer = client.post("/v1/body", json={"images": images}).json()
    alone = ask(client, png, kind="image/png", boxes="20,10,80,110").json()
    assert [len(image["people"]) for image in answer["images"]] == [1, 1]
    np.testing.assert_allclose(
        answer["images"][1]["people"][0]["joints"],
        alone["images"][0]["people"][0]["joints"],
        atol=1e-5,
    )


def test_without_a_box_the_middle_is_taken_and_told(client, jpeg, body_checkpoint, photo):
    (person,) = ask(client, jpeg).json()["images"][0]["people"]
    assert person["box"] == [20, 0, 140, 120]  # the square in the middle of 160 x 120


def test_the_crop_and_its_weak_camera_lead_to_the_joints_in_the_image(client, jpeg):
    for path in ("/v1/body", "/v1/hand?hand_side=left"):
        (person,) = ask(client, jpeg, path).json()["images"][0]["people"]
        scale, shift = person["camera"]["scale"], np.array(person["camera"]["translation"])
        in_crop = scale * (np.array(person["joints"])[:, :2] + shift)
        pixels = (in_crop + 1) * 112 - 0.5
        affine = np.array(person["crop_to_image"])
        found = pixels @ affine[:, :2].T + affine[:, 2]
        np.testing.assert_allclose(found, person["joints_2d"], atol=0.01)


def test_the_full_camera_projects_the_root_where_the_weak_one_does(client, jpeg):
    (person,) = ask(client, jpeg, boxes="20,10,80,110", intrinsics="300,310,80,60").json()[
        "images"
    ][0]["people"]
    camera = person["camera_full"]
    assert camera["intrinsics"] == [300, 310, 80, 60]
    assert camera["assumed"] is False
    x, y, z = camera["translation"]
    weak_scale, (tx, ty) = person["camera"]["scale"], person["camera"]["translation"]
    affine = np.array(person["crop_to_image"])
    root_px = affine[:, :2] @ ((np.array([tx, ty]) * weak_scale + 1) * 112 - 0.5) + affine[:, 2]
    np.testing.assert_allclose([300 * x / z + 80, 310 * y / z + 60], root_px, atol=0.5)


def test_left_hands_are_right_hands_in_a_mirror(client, photo):
    picture, mirror = encoded(photo, "png"), encoded(photo[:, ::-1].copy(), "png")
    left = ask(client, picture, "/v1/hand", "image/png", hand_side="left").json()
    right = ask(client, mirror, "/v1/hand", "image/png", hand_side="right").json()
    (one,), (other,) = left["images"][0]["people"], right["images"][0]["people"]
    assert (one["hand_side"], other["hand_side"]) == ("left", "right")
    flipped = np.array(other["joints"]) * [-1, 1, 1]
    np.testing.assert_allclose(one["joints"], flipped, atol=1e-5)


def test_vertices_only_when_asked_for(client, jpeg):
    assert ask(client, jpeg).json()["images"][0]["people"][0]["vertices"] is None


@pytest.mark.parametrize("kind", ["obj", "ply", "glb"])
def test_mesh_files_hold_everybody_before_the_camera(client, jpeg, kind):
    data = ask(client, jpeg, boxes=BOXES, format=kind).content
    people = ask(client, jpeg, boxes=BOXES, vertices=True).json()["images"][0]["people"]
    loaded = trimesh.load(io.BytesIO(data), file_type=kind, process=False)
    upright = np.concatenate(
        [(np.array(p["vertices"]) + p["camera_full"]["translation"]) * [1, -1, -1] for p in people]
    )
    if kind == "glb":
        assert sorted(loaded.geometry) == ["person0", "person1"]
    whole = loaded.to_geometry() if isinstance(loaded, trimesh.Scene) else loaded
    assert len(whole.vertices) == len(upright)
    np.testing.assert_allclose(whole.bounds[0], upright.min(axis=0), atol=1e-4)
    np.testing.assert_allclose(whole.bounds[1], upright.max(axis=0), atol=1e-4)


def test_an_obj_names_its_people(client, jpeg):
    text = ask(client, jpeg, boxes=BOXES, format="obj").text
    assert "o person0" in text
    assert "o person1" in text


def test_origin_root_leaves_the_person_at_the_origin(client, jpeg):
    data = ask(client, jpeg, format="ply", origin="root").content
    mesh = trimesh.load(io.BytesIO(data), file_type="ply", process=False)
    (person,) = ask(client, jpeg, vertices=True).json()["images"][0]["people"]
    np.testing.assert_allclose(mesh.vertices, np.array(person["vertices"]) * [1, -1, -1], atol=1e-5)


def test_npz_holds_a_row_for_each_person(client, jpeg):
    data = ask(client, jpeg, boxes=BOXES, format="npz").content
    people = ask(client, jpeg, boxes=BOXES, vertices=True).json()["images"][0]["people"]
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        assert arrays["image"].tolist() == [0, 0]
        np.testing.assert_allclose(arrays["vertices"], [p["vertices"] for p in people], atol=1e-5)
        np.testing.assert_allclose(arrays["joints_2d"], [p["joints_2d"] for p in people], atol=0.01)
        assert arrays["faces"].shape[1] == 3
        assert arrays["faces"].max() == arrays["vertices"].shape[1] - 1


def test_the_overlay_is_the_image_with_people_over_it(client, png, photo):
    data = ask(client, png, kind="image/png", boxes="20,10,80,110", format="png").content
    drawn = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert drawn.shape == photo.shape
    changed = (drawn != photo).any(axis=2)
    assert 0.02 < changed.mean() < 0.9


def test_depth_is_that_of_the_mesh_and_lies_on_the_overlay(client, png):
    query = {"kind": "image/png", "boxes": "20,10,80,110"}
    archive = zipfile.ZipFile(io.BytesIO(ask(client, png, format="depth", **query).content))
    depth = cv2.imdecode(np.frombuffer(archive.read("depth.png"), np.uint8), cv2.IMREAD_UNCHANGED)
    mask = cv2.imdecode(np.frombuffer(archive.read("mask.png"), np.uint8), cv2.IMREAD_UNCHANGED)
    (person,) = ask(client, png, vertices=True, **query).json()["images"][0]["people"]
    z = np.array(person["vertices"])[:, 2] + person["camera_full"]["translation"][2]
    assert depth.dtype == np.uint16
    assert set(np.unique(mask)) == {0, 1}
    np.testing.assert_array_equal(depth > 0, mask > 0)
    seen = depth[mask > 0] / 1e3
    assert seen.min() >= z.min() - 1e-3
    assert seen.max() <= z.max() + 1e-3
    drawn = ask(client, png, format="png", **query).content
    overlay = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR)
    original = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    changed = (overlay != original).any(axis=2)
    assert (changed == (mask > 0)).mean() > 0.98  # but for smoothed edges


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("image/*;q=0.2, model/gltf-binary", "model/gltf-binary"),
        ("text/html, application/x-npz;q=0.5", "application/x-npz"),
        ("model/*", "model/obj"),
    ],
)
def test_accept_chooses_the_format(client, jpeg, accept, media_type):
    headers = {"Content-Type": "image/jpeg", "Accept": accept}
    response = client.post("/v1/body", content=jpeg, headers=headers)
    assert response.headers["content-type"] == media_type


def test_format_goes_before_accept(client, jpeg):
    headers = {"Content-Type": "image/jpeg", "Accept": "image/png"}
    response = client.post("/v1/body?format=obj", content=jpeg, headers=headers)
    assert response.headers["content-type"].startswith("model/obj")


def test_exif_orientation_is_applied(client, photo):
    from PIL import Image

    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    Image.fromarray(photo).save(buffer, "JPEG", exif=exif)
    image = ask(client, buffer.getvalue()).json()["images"][0]
    assert (image["width"], image["height"]) == (120, 160)
