import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Page

from metro_ray.inference.charts import bars, curves, signed_spread, spread

NUMBERS = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=50)


def heights(svg):
    return [float(value) for value in re.findall(r'<rect [^>]*height="([\d.]+)"', svg)]


def counts(svg):
    return [int(value) for value in re.findall(r": (\d+)</title>", svg)]


@settings(max_examples=40, deadline=None)
@given(NUMBERS)
def test_every_value_is_in_a_bar(values):
    numbers = np.array(values)
    for svg in (spread("Error", "mm", np.abs(numbers)), signed_spread("Change", "mm", numbers)):
        assert sum(counts(svg)) == len(values)
        assert f"{len(values)} values" in Page(svg).labels[0]
        assert max(heights(svg)) <= 150


def test_a_few_large_values_do_not_squeeze_the_others():
    numbers = np.append(np.linspace(0, 50, 999), 1e6)
    svg = spread("Error", "mm", numbers)
    assert len(counts(svg)) == 30
    assert "≥ 50<" in svg


def test_numbers_that_do_not_exist_are_left_out():
    assert counts(spread("Error", "mm", np.array([1.0, np.nan, 1.0]))) == [2]
    assert spread("Error", "mm", np.array([np.nan])) == ""
    assert signed_spread("Error", "mm", np.array([])) == ""
    assert bars("By joint", "mm", ["a"], {"one": [np.nan]}) == ""
    assert curves("PCK", "mm", np.arange(3.0), {"one": np.full(3, np.nan)}) == ""


def test_bars_are_as_long_as_their_numbers():
    svg = bars("By joint", "mm", ["knee", "<hip>"], {"A": [10.0, 40.0], "B": [20.0, np.nan]})
    widths = [float(value) for value in re.findall(r'<rect [^>]* width="([\d.]+)"', svg)]
    assert len(widths) == 3
    assert np.array(widths) / widths[0] == pytest.approx([1, 2, 4], rel=0.01)
    assert "&lt;hip&gt;" in svg
    assert Page(svg).labels == ["By joint: A, B of 2 joints; largest: <hip>"]


def test_curves_run_over_the_whole_axis():
    x = np.linspace(0, 150, 31)
    svg = curves("PCK", "mm", x, {"one": x / 150, "two": np.zeros(31)})
    first, second = re.findall(r'points="([^"]+)"', svg)
    assert first.split()[0].split(",")[1] == second.split()[0].split(",")[1]
    assert float(first.split()[-1].split(",")[1]) == pytest.approx(8.0)
    assert Page(svg).labels == ["PCK: one 100.0 % at 150 mm, two 0.0 % at 150 mm"]
