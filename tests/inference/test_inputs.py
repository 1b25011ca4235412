import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.errors import DataError
from metro_ray.geometry.boxes import Box
from metro_ray.inference.inputs import Boxes, Person, Source, check_people, find_sources


@pytest.fixture
def folder(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", "clip.mp4", "sub/a.png", "sub/data.csv"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "in"


def _write(tmp_path, content):
    path = tmp_path / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def _source(name):
    from pathlib import Path

    return Source(Path("somewhere") / name, name)


def test_a_folder_gives_its_pictures_and_videos_and_counts_the_rest(folder):
    found = find_sources([folder])
    assert [source.name for source in found.sources] == ["a.png", "b.JPG", "clip.mp4"]
    assert found.num_skipped == 1
    assert [source.is_video for source in found.sources] == [False, False, True]


def test_folders_of_folders_when_asked_for(folder):
    found = find_sources([folder], recursive=True)
    assert [source.name for source in found.sources] == ["a.png", "b.JPG", "clip.mp4", "sub/a.png"]
    assert [source.folder_name for source in found.sources][-1] == "sub/a_png"
    assert found.num_skipped == 2


def test_files_are_taken_whatever_their_ending(folder):
    assert find_sources([folder / "notes.txt"]).sources[0].name == "notes.txt"


def test_two_files_that_would_be_written_to_one_place_are_refused(folder):
    with pytest.raises(DataError, match="the same folder a_png"):
        find_sources([folder / "a.png", folder / "sub" / "a.png"])


def test_what_is_not_there_is_named(folder):
    with pytest.raises(DataError, match=r"gone\.jpg does not exist"):
        find_sources([folder / "gone.jpg"])
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"no pictures or videos .* --recursive"):
        find_sources([folder / "empty"])


rectangles = st.tuples(*[st.floats(-1e4, 1e4)] * 2, *[st.floats(0.1, 1e4)] * 2)
people = st.lists(st.tuples(rectangles, st.sampled_from([None, "left", "right"])), max_size=4)


@given(files=st.dictionaries(st.text(min_size=1, max_size=8), people, max_size=4))
@settings(max_examples=50, deadline=None)
def test_files_of_boxes_read_back(files, tmp_path_factory):
    content = {
        name: [list(r) if hand is None else {"box": list(r), "hand": hand} for r, hand in entry]
        for name, entry in files.items()
    }
    boxes = Boxes.read(_write(tmp_path_factory.mktemp("boxes"), content))
    for name, entry in files.items():
        assert boxes.of(_source(name)) == tuple(Person(r, hand) for r, hand in entry)


def test_files_are_found_by_path_then_by_name_and_others_have_their_middle(tmp_path):
    boxes = Boxes.read(
        _write(tmp_path, {"sub/a.png": [[1, 2, 3, 4]], "a.png": [], "b.png": [[5, 6, 7, 8]]})
    )
    assert boxes.of(Source(tmp_path / "sub" / "a.png", "sub/a.png"))[0].rectangle == (1, 2, 3, 4)
    assert boxes.of(_source("a.png")) == ()
    assert boxes.of(Source(tmp_path / "sub" / "b.png", "sub/b.png"))[0].rectangle == (5, 6, 7, 8)
    assert boxes.of(_source("c.png")) == (Person(),)


def test_a_box_becomes_metros_square(tmp_path):
    (person,) = Boxes.read(_write(tmp_path, {"a.png": [[10, 20, 30, 50]]})).of(_source("a.png"))
    center, scale = person.box
    assert center == (25.0, 45.0)
    np.testing.assert_allclose(scale * 200, 1.2 * 50)
    assert isinstance(person.box, Box)


def test_boxes_by_frame(tmp_path):
    boxes = Boxes.read(
        _write(tmp_path, {"c.mp4": {"0": [[1, 2, 3, 4]], "7": []}, "d.mp4": [[1, 1, 1, 1]]})
    )
    clip = _source("c.mp4")
    assert len(boxes.of(clip, 0)) == 1
    assert boxes.of(clip, 7) == boxes.of(clip, 3) == ()
    assert len(boxes.of(_source("d.mp4"), 12)) == 1
    with pytest.raises(DataError, match="boxes by frame, but is a picture"):
        boxes.of(clip)


def test_other_boxes_have_another_digest(tmp_path):
    digests = {
        Boxes.read(_write(tmp_path, {"a.png": entry})).digest(_source("a.png"))
        for entry in ([], [[1, 2, 3, 4]], [[1, 2, 3, 5]], [{"box": [1, 2, 3, 4], "hand": "left"}])
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ([[1, 2, 3, 4]], "got a list"),
        ({"a.png": [1, 2, 3, 4]}, r"a.png, box 0: expected \[x, y, width, height\]"),
        ({"a.png": [[1, 2, 3]]}, r"a.png, box 0: expected \[x, y, width, height\]"),
        ({"a.png": [[1, 2, 3, 4], [1, 2, 0, 4]]}, "a.png, box 1: box .* has no size"),
        ({"a.png": [[1, 2, 3, -4]]}, "has no size"),
        ('{"a.png": [[1, 2, NaN, 4]]}', "must be finite"),
        ({"a.png": [[1, 2, "3", 4]]}, "expected"),
        ({"a.png": [{"box": [1, 2, 3, 4], "side": "left"}]}, "expected the keys box and"),
        ({"a.png": [{"hand": "left"}]}, "expected the keys box and"),
        ({"a.png": [{"box": [1, 2, 3, 4], "hand": "both"}]}, "hand must be left or right"),
        ({"a.mp4": {"first": []}}, "frame numbers from 0"),
    ],
)
def test_what_is_no_box_is_named(content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        Boxes.read(_write(tmp_path, content))


def test_names_of_no_file_are_told_and_refused_where_none_fits(tmp_path):
    boxes = Boxes.read(_write(tmp_path, {"a.png": [], "typo.png": []}))
    assert boxes.check_names([_source("a.png")]) == ["typo.png"]
    with pytest.raises(DataError, match="none of these is among the files"):
        boxes.check_names([_source("z.png")])


@pytest.mark.parametrize(
    ("person", "kind", "message"),
    [
        (Person((0, 0, 1, 1), "left"), "body", "box 0 is of a hand, but .* bodies"),
        (Person((0, 0, 1, 1), None, "body"), "hand", "box 0 is of a body, but .* hands"),
    ],
)
def test_boxes_of_what_is_not_predicted_are_refused(person, kind, message):
    with pytest.raises(DataError, match=message):
        check_people([person], kind, "smpl", "a.png")
    check_people([Person((0, 0, 1, 1))], kind, "smpl", "a.png")
