"""Several photos or a video on the page: a job with progress, cancelled or fetched."""

import json
import zipfile

import cv2
import pytest
from live import running
from served import local_args

from metro_ray.serve.api import create_api


def write_photos(folder, jpeg, number):
    paths = [folder / f"photo {n}.jpg" for n in range(number)]
    for path in paths:
        path.write_bytes(jpeg)
    return paths


def write_video(path, photo, number):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (160, 120))
    for _ in range(number):
        writer.write(photo[:, :, ::-1].copy())
    writer.release()
    return path


def fetched(page, folder):
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download the zip").press("Enter")
    path = folder / caught.value.suggested_filename
    caught.value.save_as(path)
    return path


def test_several_photos_become_a_zip_by_keyboard(open_page, jpeg, tmp_path):
    page = open_page()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(jpeg[:600])
    page.locator("#file").set_input_files([*write_photos(tmp_path, jpeg, 3), broken])
    assert page.get_by_role("heading", name="4 files").is_visible()
    assert page.locator("#start").is_hidden()
    page.get_by_label("A file for each, as").select_option("ply")
    with page.expect_request(lambda request: request.url.endswith("/v1/jobs")):
        page.get_by_role("button", name="Start").press("Enter")
    page.get_by_role("button", name="Download the zip").wait_for()
    assert page.locator("#job-download").evaluate("e => e === document.activeElement")
    bar = page.get_by_role("progressbar", name="4 files")
    assert bar.evaluate("e => [e.value, e.max]") == [4, 4]
    assert page.inner_text("#job-state") == "4 pictures are done."
    path = fetched(page, tmp_path)
    assert path.name == "photos-meshes.zip"
    with zipfile.ZipFile(path) as archive:
        assert sum(name.endswith(".ply") for name in archive.namelist()) == 3
        assert list(json.loads(archive.read("report.json"))["failed"]) == ["00003_broken"]


@pytest.mark.slow
def test_a_video_of_left_hands(open_page, photo, tmp_path):
    page = open_page()
    page.get_by_role("radio", name="Hand").check(force=True)
    page.get_by_role("radio", name="Left").check(force=True)
    page.locator("#file").set_input_files(write_video(tmp_path / "clip.mp4", photo, 5))
    page.get_by_label("A file for each, as").select_option("json")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Download the zip").wait_for()
    path = fetched(page, tmp_path)
    assert path.name == "clip-meshes.zip"
    with zipfile.ZipFile(path) as archive:
        assert sum(name.startswith("frame_") for name in archive.namelist()) == 5
        (hand,) = json.loads(archive.read("frame_000004.json"))["images"][0]["people"]
    assert hand["hand_side"] == "left"


@pytest.mark.slow
def test_a_job_is_cancelled_here_and_at_the_server(open_page, jpeg, tmp_path):
    page = open_page()
    page.locator("#file").set_input_files(write_photos(tmp_path, jpeg, 200))
    with page.expect_response(lambda answer: answer.url.endswith("/v1/jobs")) as answer:
        page.get_by_role("button", name="Start").click()
    job = answer.value.json()["id"]
    with page.expect_request(lambda request: request.method == "DELETE") as dropped:
        page.get_by_role("button", name="Cancel", exact=True).click()
    assert dropped.value.url.endswith(job)
    assert dropped.value.response().status == 200
    assert "Cancelled" in page.inner_text("#status")
    assert page.evaluate(f"fetch('v1/jobs/{job}').then(r => r.status)") == 404
    page.get_by_role("button", name="New photo").click()
    assert page.locator("#start").is_visible()
    assert page.locator("#job").is_hidden()


@pytest.mark.slow
def test_a_job_that_fails_says_why_and_can_be_started_again(open_page, jpeg, tmp_path):
    broken = tmp_path / "film.mp4"
    broken.write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(100))
    page = open_page()
    page.locator("#file").set_input_files(broken)
    page.get_by_role("button", name="Start").click()
    page.wait_for_selector("#problem:not([hidden])")
    assert "video" in page.inner_text("#problem-text")
    assert page.get_by_role("button", name="Start").is_visible()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_of_a_job_is_cut_off(open_page, jpeg, tmp_path, width):
    page = open_page(viewport={"width": width, "height": 844})
    page.locator("#file").set_input_files(write_photos(tmp_path, jpeg, 4))
    page.get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Download the zip").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for button in ("Download the zip", "Drop it"):
        place = page.get_by_role("button", name=button).bounding_box()
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= width


def test_a_server_without_jobs_offers_none(open_page, engines, args):
    with running(create_api(engines, local_args(**args, ingress={"replicas": 2}))) as address:
        page = open_page(address)
        page.locator(".with-jobs").first.wait_for(state="hidden")
        assert "zip" not in page.locator("#start").inner_text()
        assert page.locator("#file").evaluate("e => [e.multiple, e.accept.includes('video')]") == [
            False,
            False,
        ]
        page.evaluate(
            """() => {
                const files = new DataTransfer();
                for (const name of ["a.jpg", "b.jpg"]) files.items.add(new File(["x"], name));
                dispatchEvent(new DragEvent("drop", { dataTransfer: files, cancelable: true }));
            }"""
        )
        page.wait_for_selector("#problem:not([hidden])")
        assert "one photo at a time" in page.inner_text("#problem-text")
        assert page.locator("#job").is_hidden()
