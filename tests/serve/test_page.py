"""The page in a real browser, over the real API."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import trimesh
from live import running
from served import local_args

from metro_ray.serve.api import create_api
from metro_ray.serve.client import Client
from metro_ray.serve.keys import digest
from metro_ray.serve.schema import PredictAnswer

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
FLAGS = [
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-sandbox",
    "--disable-gpu-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 20_000
EXPECTED_NOISE = ("GPU stall", "Failed to load resource", "Error creating WebGL context")
"""Of software rendering, and of errors that tests ask for."""


@pytest.fixture(scope="module")
def args(body_checkpoint, hand_checkpoint):
    return {"body": body_checkpoint, "hand": hand_checkpoint}


@pytest.fixture(scope="module")
def url(engines, args):
    with running(create_api(engines, local_args(**args))) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, url):
    """Opens the page; afterwards there must be no error in its console."""
    contexts, complaints = [], []

    def open_(address=url, script=None, **options):
        options = {"viewport": {"width": 1280, "height": 860}, "reduced_motion": "reduce"} | options
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        if script:
            page.add_init_script(script)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda line: line.type in ("error", "warning") and complaints.append(line.text),
        )
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(noise in text for noise in EXPECTED_NOISE)] == []


def try_sample(page, task="body"):
    page.locator(f".sample[data-task={task}]").click()
    page.wait_for_selector("#result:not([hidden])")
    settled(page)


def settled(page):
    page.wait_for_selector("body:not(.is-busy)")


def pixels(locator):
    data = np.frombuffer(locator.screenshot(), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB).astype(int)


def boxes_of(request):
    text = re.search(r"boxes=([^&]*)", request.url)
    if not text:
        return []
    boxes = text[1].replace("%2C", ",").replace("%3B", ";").split(";")
    return [[float(number) for number in box.split(",")] for box in boxes]


def is_prediction(request, task="body"):
    return request.method == "POST" and f"/v1/{task}?" in request.url


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


@pytest.mark.slow
def test_a_broken_file_is_refused_in_the_servers_words(open_page, tmp_path, jpeg):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(jpeg[:600])
    page = open_page()
    page.locator("#file").set_input_files(broken)
    page.wait_for_selector("#problem:not([hidden])")
    assert "send the whole file" in page.get_by_role("alert").inner_text()
    assert re.search(r"bad_image, request [0-9a-f]{32}", page.inner_text("#problem"))
    assert page.locator("#start").is_visible()
    page.get_by_role("button", name="Close the message").click()
    try_sample(page)


@pytest.mark.slow
def test_a_busy_server_is_asked_again(open_page):
    page = open_page()
    error = {"error": {"code": "overloaded", "message": "too many wait", "request_id": "r1"}}
    busy = {"status": 503, "headers": {"Retry-After": "1"}, "body": json.dumps(error)}
    page.route("**/v1/body?*", lambda route: route.fulfill(**busy), times=1)
    try_sample(page)
    assert page.locator("#problem").is_hidden()
    page.route("**/v1/body?*", lambda route: route.fulfill(**busy), times=3)
    page.get_by_role("button", name="Reconstruct").click()
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem-text") == "Too many wait."
    assert page.locator("#result").is_hidden()
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#result:not([hidden])")


@pytest.mark.slow
def test_a_server_with_keys_asks_for_one(open_page, engines, args, monkeypatch):
    keys = {"keys": [{"name": "test", "sha256": digest("mr_right")}]}
    monkeypatch.setenv("METRO_RAY_SERVE_KEYS", json.dumps(keys))
    with running(create_api(engines, local_args(**args))) as address:
        page = open_page(address)
        page.wait_for_selector("#key[open]")
        page.get_by_label("API key", exact=True).fill("mr_wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key[open]")
        page.get_by_label("API key", exact=True).fill("mr_right")
        page.get_by_role("button", name="Use this key").click()
        page.wait_for_selector("#key:not([open])", state="attached")
        try_sample(page)
        stored = page.evaluate(
            "[JSON.stringify(localStorage), document.cookie, sessionStorage.length]"
        )
        assert stored == ["{}", "", 1]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_is_drawn_on_by_touch(open_page, scheme):
    page = open_page(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    try_sample(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Delete Person 1").tap()
    settled(page)
    page.get_by_role("button", name="Draw a box").tap()
    page.locator("#stage").scroll_into_view_if_needed()
    frame = page.locator("#frame").bounding_box()
    touch = page.context.new_cdp_session(page)
    with page.expect_request(is_prediction) as caught:
        for kind, share in (("Start", 0.2), ("Move", 0.5), ("Move", 0.8)):
            x, y = (frame[at] + share * frame["width"] for at in "xy")
            point = {"type": f"touch{kind}", "touchPoints": [{"x": x, "y": y}]}
            touch.send("Input.dispatchTouchEvent", point)
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert boxes_of(caught.value) == [pytest.approx([128, 128, 512, 512], abs=3)]


@pytest.mark.slow
def test_without_webgl_there_are_still_skeleton_and_downloads(open_page):
    page = open_page(
        script="HTMLCanvasElement.prototype.getContext = new Proxy(HTMLCanvasElement.prototype.getContext, "
        "{apply: (f, self, [kind, ...rest]) => kind.startsWith('webgl') ? null : f.call(self, kind, ...rest)});"
    )
    page.locator(".sample[data-task=body]").click()
    page.wait_for_selector("#result:not([hidden])")
    assert "no WebGL" in page.inner_text("#viewer-note")
    assert page.locator("#bones .bone").count() > 10


CONTRAST = """selectors => selectors.map(selector => {
  const luminance = text => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d');
    canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const element = document.querySelector(selector);
  let behind = element;
  while (/, 0\\)|transparent/.test(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
  const pair = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(luminance);
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
})"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_and_controls_have_names(open_page, scheme):
    page = open_page(color_scheme=scheme)
    shown = [
        "#start-title",
        ".drop .small",
        "#choose",
        ".sample span",
        ".sample small",
        ".bar-end a",
    ]
    assert min(page.evaluate(CONTRAST, shown)) >= 4.5
    try_sample(page)
    shown = [
        "#box-help",
        "#run",
        ".chip-go",
        "#facts dt",
        "#facts dd",
        "#status",
        "#downloads button",
    ]
    assert min(page.evaluate(CONTRAST, shown)) >= 4.5
    nameless = "[...document.querySelectorAll('button, input, canvas[tabindex], .box')].filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
    assert page.evaluate(nameless) == []
    page.get_by_role("button", name="Side").focus()
    page.keyboard.press("Enter")
    before = pixels(page.locator("#turn"))
    page.locator("#turn").focus()
    page.keyboard.press("ArrowLeft")
    assert np.abs(pixels(page.locator("#turn")) - before).sum() > 0
