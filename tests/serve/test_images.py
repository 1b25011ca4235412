"""Headers tell type and size as decoders do, and never crash on what strangers send."""

import contextlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metro_ray.serve.images import open_image, read_header
from metro_ray.serve.problems import ApiError

SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))
KINDS = {
    "jpeg": {"format": "JPEG"},
    "progressive": {"format": "JPEG", "progressive": True},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP"},
    "lossless": {"format": "WEBP", "lossless": True},
    "animated": {"format": "WEBP", "save_all": True, "duration": 9},
}


def written(kind, size):
    buffer = io.BytesIO()
    options = dict(KINDS[kind])
    if kind == "animated":
        options["append_images"] = [Image.new("RGB", size, "red")]
    Image.new("RGB", size, (10, 200, 90)).save(buffer, **options)
    return buffer.getvalue()


@settings(deadline=None)
@given(st.sampled_from(sorted(KINDS)), SIZES)
def test_size_and_type(kind, size):
    header = read_header(written(kind, size))
    assert (header.width, header.height) == size
    expected = {"progressive": "jpeg", "lossless": "webp", "animated": "webp"}.get(kind, kind)
    assert header.kind == expected


def test_transparency_makes_an_extended_webp():
    buffer = io.BytesIO()
    Image.new("RGBA", (33, 44), (1, 2, 3, 99)).save(
        buffer, "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"
    )
    assert read_header(buffer.getvalue())[1:] == (33, 44)


@given(
    st.sampled_from(
        [
            b"",
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"RIFF\0\0\0\0WEBPVP8X",
            b"RIFF\0\0\0\0WEBPVP8L",
            b"RIFF\0\0\0\0WEBPVP8 ",
        ]
    ),
    st.binary(max_size=64),
)
def test_junk_is_refused_with_words(start, rest):
    with pytest.raises(ApiError) as caught:
        open_image(start + rest, 10_000)
    assert caught.value.status in (400, 413)
    assert len(caught.value.message) > 20


@given(st.sampled_from(["jpeg", "png", "webp"]), st.data())
def test_damaged_files_are_refused_or_read(kind, data):
    content = bytearray(written(kind, (40, 30)))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ApiError):  # any other exception is a fault
        image = open_image(bytes(content[: data.draw(st.integers(1, len(content)))]), 100_000)
        assert image.shape[2] == 3
        assert image.shape[0] * image.shape[1] <= 100_000


def test_a_png_that_announces_a_chunk_of_gigabytes_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("metro_ray.serve.images.decode_image", lambda data: pytest.fail("decoded"))
    content = bytearray(written("png", (30, 20)))
    place = content.index(b"IDAT")
    content[place - 4 : place] = b"\x7f\x00\x00\x00"
    with pytest.raises(ApiError, match="ends behind the file; send the whole file"):
        open_image(bytes(content), 10_000)
    many = written("png", (30, 20))[:33] + (b"\0\0\0\0tEXt" + b"\0" * 4) * 10_001
    with pytest.raises(ApiError, match="more than 10000 chunks"):
        open_image(many, 10_000)


def test_pixels_are_counted_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr("metro_ray.serve.images.decode_image", lambda data: pytest.fail("decoded"))
    with pytest.raises(ApiError, match="300 x 300"):
        open_image(written("png", (300, 300)), 300 * 300 - 1)
