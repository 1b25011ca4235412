"""A real browser, and the page over the real API."""

import gc
import shutil

import pytest
from live import running
from served import local_args

from metro_ray.serve.api import create_api

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
    "--use-fake-device-for-media-stream",
]
WAIT_MS = 60_000
EXPECTED_NOISE = ("GPU stall", "Failed to load resource", "Error creating WebGL context")
"""Of software rendering, and of errors that tests ask for."""


@pytest.fixture(scope="session")
def args(body_checkpoint, hand_checkpoint):
    return {"body": body_checkpoint, "hand": hand_checkpoint}


@pytest.fixture(scope="session")
def url(engines, args):
    with running(create_api(engines, local_args(**args))) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    """Not for longer than a module: while it is open, this thread has a running event loop."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()
    # A greenlet of playwright that is collected while Python 3.11 parses a module breaks the parser.
    gc.collect()


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
