"""A photo, boxes on it, the mesh, downloads: the page in a real browser, over the real API."""

import io
import re

import cv2
import numpy as np
import PIL.Image
import pytest
import trimesh
from browser import boxes_of, is_prediction, pixels, settled, try_sample

from metro_ray.serve.client import Client
from metro_ray.serve.schema import PredictAnswer


def test_a_sample_becomes_a_mesh_over_the_photo_and_in_3d(open_page, url):
    page = open_page()
    try_sample(page)
    assert "1 person in" in page.inner_text("#status")
    page.locator("#show-boxes").uncheck()
    with_mesh, turned = pixels(page.locator("#frame")), pixels(page.locator("#turn"))
    page.locator("#show-mesh").uncheck()
    without = pixels(page.locator("#frame"))
    drawn = np.abs(with_mesh - without).sum(axis=2) > 24
    photo = page.evaluate(
        "fetch('samples/body.jpg').then(r => r.arrayBuffer()).then(b => [...new Uint8Array(b)])"
    )
    with Client(url) as client:
        overlay = client.predict_file("body", bytes(photo), [[255, 146, 400, 552]], format="png")
    ready = cv2.imdecode(np.frombuffer(overlay, np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)
    plain = cv2.imdecode(np.frombuffer(bytes(photo), np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)
    expected = (np.abs(ready - plain).sum(axis=2) > 24).astype(np.uint8)
    expected = cv2.resize(expected, drawn.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    share = (drawn & expected).sum() / (drawn | expected).sum()
    assert share > 0.85, f"the page's mesh covers {share:.2f} of what the server's overlay covers"
    hidden = pixels(page.locator("#turn"))
    assert (np.abs(turned - hidden).sum(axis=2) > 24).mean() > 0.03
    assert "anny_body" in page.inner_text("#facts")


@pytest.mark.slow
def test_boxes_by_keyboard(open_page):
    page = open_page()
    try_sample(page)
    page.get_by_role("button", name="Person 1", exact=True).press("Enter")
    box = page.locator(".box").first
    assert box.evaluate("e => e === document.activeElement")
    with page.expect_request(is_prediction) as moved:
        for _ in range(3):
            page.keyboard.press("ArrowRight")
    assert boxes_of(moved.value) == [[274.2, 146, 419.2, 552]]
    with page.expect_request(is_prediction) as larger:
        page.keyboard.press("Shift+ArrowDown")
        page.keyboard.press("Control+ArrowLeft")
    assert boxes_of(larger.value) == [[273.2, 146, 418.2, 558.4]]
    assert "left 273, top 146, 145 wide, 412 high" in box.get_attribute("aria-label")
    page.get_by_role("button", name="Add a box").press("Enter")
    settled(page)
    page.get_by_text(re.compile("^2 people in")).wait_for()
    with page.expect_request(is_prediction) as fewer:
        page.keyboard.press("Delete")
    assert len(boxes_of(fewer.value)) == 1


@pytest.mark.slow
def test_boxes_by_mouse(open_page):
    page = open_page()
    try_sample(page)
    page.get_by_role("button", name="Delete Person 1").click()
    settled(page)
    frame = page.locator("#frame").bounding_box()
    scale = 640 / frame["width"]

    def drag(start, end):
        with page.expect_request(is_prediction) as caught:
            page.mouse.move(frame["x"] + start[0] / scale, frame["y"] + start[1] / scale)
            page.mouse.down()
            for step in (0.5, 1.0):
                x, y = (a + step * (b - a) for a, b in zip(start, end))
                page.mouse.move(frame["x"] + x / scale, frame["y"] + y / scale)
            page.mouse.up()
        settled(page)
        return boxes_of(caught.value)

    assert drag((100, 90), (400, 500)) == [pytest.approx([100, 90, 400, 500], abs=1.5)]
    assert drag((250, 300), (270, 340)) == [pytest.approx([120, 130, 420, 540], abs=2)]
    assert drag((420, 540), (380, 600)) == [pytest.approx([120, 130, 380, 600], abs=3)]
    assert drag((30, 30), (90, 110))[1] == pytest.approx([30, 30, 90, 110], abs=1.5)


@pytest.mark.slow
def test_a_turned_photo_is_marked_as_it_is_shown(open_page, tmp_path, jpeg):
    turned = tmp_path / "turned.jpg"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    PIL.Image.open(io.BytesIO(jpeg)).save(turned, exif=exif)
    page = open_page()
    page.locator("#file").set_input_files(turned)
    page.wait_for_selector("#result:not([hidden])")
    assert "120 \u00d7 160 pixels" in page.inner_text("#facts")
    with page.expect_request(is_prediction) as asked:
        page.get_by_role("button", name="Add a box").click()
    assert boxes_of(asked.value) == [[24, 32, 96, 128]]
    settled(page)
    width, height = (page.locator("#frame").bounding_box()[side] for side in ("width", "height"))
    assert width / height == pytest.approx(0.75, abs=0.01)


@pytest.mark.slow
def test_a_photo_from_the_camera(open_page):
    page = open_page(permissions=["camera"])
    page.get_by_role("button", name="Use the camera").click()
    page.locator("#camera-shoot:enabled").wait_for()
    page.wait_for_timeout(500)  # the fake camera's first picture
    with page.expect_request(is_prediction) as asked:
        page.get_by_role("button", name="Take the photo").click()
    assert asked.value.headers["content-type"] == "image/jpeg"
    page.wait_for_selector("#result:not([hidden])")
    page.get_by_role("button", name="New photo").click()
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Cancel").click()
    assert page.locator("#start").is_visible()


@pytest.mark.slow
def test_a_camera_that_is_not_allowed_is_told(open_page):
    page = open_page()
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_text("does not let this page use the camera").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_photo_that_is_dropped_or_pasted(open_page, jpeg, kind):
    page = open_page()
    page.evaluate(
        """([kind, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "mine.jpg", {type: "image/jpeg"}));
          const event = kind === "drop"
            ? new DragEvent("drop", {dataTransfer: data, bubbles: true})
            : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
          document.querySelector("#drop").dispatchEvent(event);
        }""",
        [kind, list(jpeg)],
    )
    page.wait_for_selector("#result:not([hidden])")
    assert page.get_by_alt_text("The photo mine.jpg").is_visible()


@pytest.mark.slow
def test_downloads(open_page, tmp_path):
    page = open_page()
    try_sample(page, "hand")

    def fetch(name):
        with page.expect_download() as caught:
            page.get_by_role("button", name=name, exact=True).click()
        path = tmp_path / caught.value.suggested_filename
        caught.value.save_as(path)
        return path

    path = fetch("JSON")
    assert path.name == "sample-hand-mesh.json"
    answer = PredictAnswer.model_validate_json(path.read_bytes())
    assert answer.images[0].people[0].hand_side == "right"
    mesh = trimesh.load_mesh(fetch("PLY"), process=False)
    assert len(mesh.vertices) == len(answer.images[0].people[0].vertices)
    assert cv2.imread(str(fetch("Overlay PNG"))).shape == (640, 640, 3)


@pytest.mark.slow
def test_left_hands_are_asked_for_and_drawn_with_their_own_faces(open_page):
    page = open_page()
    try_sample(page, "hand")
    with (
        page.expect_request(lambda request: is_prediction(request, "hand")) as asked,
        page.expect_request(lambda request: "faces?hand_side=left" in request.url),
    ):
        page.get_by_role("radio", name="Left").check(force=True)
    assert "hand_side=left" in asked.value.url
    settled(page)
    assert page.inner_text("#status").startswith("1 hand in")
