"""The text of a row: what a quicker decoder of JSON and base64 must not change. Faults: test_dataset.py."""

import base64
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metro_ray.data.row_text import decode_image_column, decode_label_column
from metro_ray.data.tsv import TsvFile, build_lineidx

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "x.tsv"
    path.write_bytes(b"key\tvalue\n")
    build_lineidx(path)
    return TsvFile(path)


@given(record=st.dictionaries(st.text(), VALUES, max_size=5), ascii_only=st.booleans())
def test_labels_are_what_json_makes_of_them(file, record, ascii_only):
    """To the bit of every number, the order of fields and the difference between 1 and 1.0."""
    text = json.dumps([record], ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    expected = json.loads(text)[0]
    decoded = decode_label_column(text, file, 0, "key")
    assert decoded == expected
    assert json.dumps(decoded) == json.dumps(expected)


def test_numbers_that_json_has_not(file):
    """Python writes them and METRO reads them."""
    text = b'[{"nan": NaN, "up": Infinity, "down": -Infinity, "large": 123456789012345678901}]'
    decoded = decode_label_column(text, file, 0, "key")
    assert math.isnan(decoded["nan"])
    assert (decoded["up"], decoded["down"]) == (math.inf, -math.inf)
    assert decoded["large"] == 123456789012345678901


@given(data=st.binary(min_size=1))
def test_images_are_what_base64_makes_of_them(file, data):
    assert decode_image_column(memoryview(base64.b64encode(data)), file, 0, "key") == data


def test_long_images(file):
    data = np.random.default_rng(0).bytes(100_003)
    assert decode_image_column(base64.b64encode(data), file, 0, "key") == data
