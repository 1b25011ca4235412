"""Errors, keys, phones, and browsers without WebGL; what can be read and by whom."""

import json
import re

import cv2
import numpy as np
import pytest
from browser import boxes_of, is_prediction, pixels, settled, try_sample
from live import running
from served import local_args

from metro_ray.serve.api import create_api
from metro_ray.serve.keys import digest


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
def test_a_photo_that_is_too_large_is_refused_with_the_limit(open_page, engines, args, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    large = tmp_path / "large.png"
    cv2.imwrite(str(large), noise)
    limits = {"max_body_bytes": 2**20}
    with running(create_api(engines, local_args(**args, limits=limits))) as address:
        page = open_page(address)
        page.locator("#file").set_input_files(large)
        page.wait_for_selector("#problem:not([hidden])")
        assert "too_large" in page.inner_text("#problem-more")
        assert "1048576" in page.inner_text("#problem-text").replace(",", "")


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
