"""What tests of the page do and look at."""

import re

import cv2
import numpy as np


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
