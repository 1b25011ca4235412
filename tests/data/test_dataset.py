"""METRO's YAML and TSV files, whole and broken: every fault is an error that names file and row."""

import base64
import logging
import pickle
import shutil

import pytest

from metro_ray.data.dataset import open_dataset
from metro_ray.data.transform import SampleTransform
from metro_ray.data.tsv import TsvFile, build_lineidx
from metro_ray.errors import DataError

from .conftest import encode, make_image, make_label, write_dataset


def edit(path, change):
    """Change the lines of a file and index it again."""
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))
    if path.with_suffix(".lineidx").exists():
        build_lineidx(path)


def replace_column(lines, row, column, value):
    columns = lines[row].rstrip(b"\n").split(b"\t")
    columns[column] = value
    lines[row] = b"\t".join(columns) + b"\n"


def read_all(yaml_path, spec):
    dataset = open_dataset(yaml_path, spec)
    transform = SampleTransform(spec, train=False)
    return [transform(dataset.row(i), i) for i in range(len(dataset))]


def refuse(yaml_path, spec, *words):
    with pytest.raises(DataError) as caught:
        read_all(yaml_path, spec)
    message = str(caught.value)
    for word in words:
        assert word in message, message


# --------------------------------------------------------------------------------- whole files


def test_rows_come_back_as_written(rows, body):
    dataset = open_dataset(rows, body)
    assert len(dataset) == 5
    row = dataset.row(3)
    assert row.key == "seq/image_003.jpg"
    assert row.image_bytes == encode(make_image(3))
    assert row.label == make_label(body, 3)
    assert row.hw == (60, 80)
    assert dataset.key(3) == row.key


def test_data_sets_pickle(rows, body):
    copy = pickle.loads(pickle.dumps(open_dataset(rows, body)))
    assert copy.row(2) == open_dataset(rows, body).row(2)


def test_linelist_may_skip_reorder_repeat_and_count_from_the_end(rows, body):
    rows.with_name("train.linelist.tsv").write_text("4\n-5\n-1\n2\n2\n")
    dataset = open_dataset(rows, body)
    assert [dataset.key(i)[-7:-4] for i in range(len(dataset))] == [
        "004",
        "000",
        "004",
        "002",
        "002",
    ]


def test_hw_and_linelist_may_be_missing(rows, body):
    rows.write_text("img: train.img.tsv\nlabel: train.label.tsv\n")
    dataset = open_dataset(rows, body)
    assert len(dataset) == 5
    assert dataset.row(1).hw is None
    assert dataset.row(1).key == "seq/image_001.jpg"


def test_an_empty_linelist_is_an_empty_data_set(rows, body):
    rows.with_name("train.linelist.tsv").write_text("")
    assert len(open_dataset(rows, body)) == 0


def test_other_spellings_of_the_size_and_more_columns_of_the_image(rows, body):
    edit(rows.with_name("train.hw.tsv"), lambda lines: replace_column(lines, 0, 1, b"60 80"))
    more = base64.b64encode(encode(make_image(9)))
    edit(rows.with_name("train.img.tsv"), lambda lines: replace_column(lines, 0, 1, b"x\t" + more))
    row = open_dataset(rows, body).row(0)
    assert row.hw == (60, 80)
    assert row.image_bytes == encode(make_image(9))


@pytest.mark.parametrize("part", ["img", "label", "hw"])
def test_crlf_and_a_missing_last_newline_are_fine(rows, body, part):
    expected = open_dataset(rows, body).row(4)
    path = rows.with_name(f"train.{part}.tsv")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n")[:-2])
    build_lineidx(path)
    assert open_dataset(rows, body).row(4) == expected


def test_keys_may_hold_any_letters(tmp_path, body):
    yaml_path = write_dataset(tmp_path, body, 3)
    for part in ("img", "label", "hw"):
        edit(
            tmp_path / f"train.{part}.tsv",
            lambda lines: replace_column(lines, 0, 0, "straße/日本.jpg".encode()),
        )
    dataset = open_dataset(yaml_path, body)
    assert dataset.key(0) == "straße/日本.jpg"
    assert dataset.key(2) == "seq/image_002.jpg"


def test_yaml_is_looked_up_in_the_root(rows, body):
    assert len(open_dataset(rows.name, body, root=rows.parent)) == 5


def test_current_folder_wins_and_says_so(rows, tmp_path, body, monkeypatch, caplog):
    """METRO's rule for relative names; a stray file must not win unseen."""
    here = tmp_path / "here"
    here.mkdir()
    write_dataset(here, body, 2)
    (here / "train.yaml").unlink()
    monkeypatch.chdir(here)
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset(rows, body)
        assert len(dataset) == 2
    assert "current folder wins" in caplog.text
    monkeypatch.chdir(tmp_path)
    assert dataset.row(1).key == "seq/image_001.jpg"  # paths were made absolute when it was opened


# ------------------------------------------------------------------------------- composite files


@pytest.fixture
def composite(tmp_path, body):
    for name, num_rows in (("a", 3), ("b", 2)):
        write_dataset(tmp_path / name, body, num_rows)
    (tmp_path / "all.linelist.tsv").write_text("1\t0\n0\t2\n1\t-1\n0\t2\n")
    text = "composite: true\nlinelist: all.linelist.tsv\n"
    for key in ("img", "label", "hw"):
        text += f"{key}: [a/train.{key}.tsv, b/train.{key}.tsv]\n"
    path = tmp_path / "all.yaml"
    path.write_text(text)
    return path


def test_composite_rows_come_from_their_sources(composite, body):
    dataset = open_dataset(composite, body)
    found = [(row.source, row.key[-5]) for row in map(dataset.row, range(len(dataset)))]
    assert found == [(1, "0"), (0, "2"), (1, "1"), (0, "2")]


def test_composite_files_may_be_listed_in_a_text_file(composite, body):
    composite.with_name("images.txt").write_text("a/train.img.tsv\nb/train.img.tsv\n")
    text = composite.read_text().replace(
        "img: [a/train.img.tsv, b/train.img.tsv]", "img: images.txt"
    )
    composite.write_text(text)
    assert open_dataset(composite, body).row(0).source == 1


@pytest.mark.parametrize(
    ("linelist", "words"),
    [
        ("2\t0\n", ("line 1", "source 2", "0 to 1")),
        ("1\t2\n", ("row 2", "source 1", "2 rows")),
        ("1\n", ("line 1", "source<TAB>row")),
        ("0\t1\n\n", ("line 2",)),
    ],
)
def test_broken_composite_linelists(composite, body, linelist, words):
    composite.with_name("all.linelist.tsv").write_text(linelist)
    refuse(composite, body, "all.linelist.tsv", *words)


@pytest.mark.parametrize("key", ["img", "label", "hw", "linelist"])
def test_composite_needs_all_keys(composite, body, key):
    lines = [line for line in composite.read_text().splitlines() if not line.startswith(key)]
    composite.write_text("\n".join(lines))
    refuse(composite, body, "all.yaml", repr(key))


# ---------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize("part", ["img", "label", "hw"])
def test_missing_index(rows, body, part):
    rows.with_name(f"train.{part}.lineidx").unlink()
    refuse(rows, body, f"train.{part}.tsv", "line index", "build_lineidx")


@pytest.mark.parametrize("part", ["img", "label", "hw", "linelist"])
def test_missing_file(rows, body, part):
    rows.with_name(f"train.{part}.tsv").unlink()
    refuse(rows, body, "train.yaml", f"train.{part}.tsv", repr(part))


@pytest.mark.parametrize("key", ["img", "label"])
def test_missing_yaml_key(rows, body, key):
    lines = [line for line in rows.read_text().splitlines() if not line.startswith(key)]
    rows.write_text("\n".join(lines))
    refuse(rows, body, "train.yaml", repr(key))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "img: [x\n", "img: 3\nlabel: x\n"])
def test_not_a_data_set_yaml(rows, body, text):
    rows.write_text(text)
    refuse(rows, body, "train.yaml")


def test_missing_yaml(tmp_path, body):
    refuse(tmp_path / "none.yaml", body, "none.yaml", "does not exist")


JPEG = encode(make_image(1))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (b"", ("is empty",)),
        (base64.b64encode(JPEG)[:-3], ("base64",)),
        (b"#%" + base64.b64encode(JPEG), ("base64",)),
        (base64.b64encode(b"not an image at all"), ("cannot be decoded",)),
        (base64.b64encode(JPEG[:100]), ("cut",)),
        (base64.b64encode(JPEG[: len(JPEG) // 2]), ("cut",)),
    ],
    ids=["empty", "length", "foreign", "garbage", "header", "half"],
)
def test_broken_image(rows, body, column, words):
    edit(rows.with_name("train.img.tsv"), lambda lines: replace_column(lines, 2, 1, column))
    refuse(rows, body, "train.img.tsv", "row 2", "seq/image_002.jpg", *words)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (b"[]", ("empty",)),
        (b'[{"center": [1, 2]', ("not JSON",)),
        (b'{"center": 1}', ("list of records", "dict")),
        (b"[3]", ("record", "int")),
    ],
    ids=["no-record", "cut", "no-list", "no-dict"],
)
def test_broken_label(rows, body, column, words):
    edit(rows.with_name("train.label.tsv"), lambda lines: replace_column(lines, 2, 1, column))
    refuse(rows, body, "train.label.tsv", "row 2", "seq/image_002.jpg", *words)


@pytest.mark.parametrize(("part", "share"), [("img", 0.6), ("label", 0.6)])
def test_last_line_cut(rows, body, part, share):
    """The file was copied only in part; the index still fits."""
    path = rows.with_name(f"train.{part}.tsv")
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[: start + int(share * (len(whole) - start))])
    refuse(rows, body, f"train.{part}.tsv", "row 4", "seq/image_004.jpg", "cut")


@pytest.mark.parametrize("part", ["img", "label", "hw"])
def test_last_line_missing(rows, body, part):
    path = rows.with_name(f"train.{part}.tsv")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    refuse(rows, body, f"train.{part}.lineidx", "row 4", "only")


def test_hw_row_without_tab(rows, body):
    edit(rows.with_name("train.hw.tsv"), lambda lines: lines.__setitem__(1, b"seq/image_001.jpg\n"))
    refuse(rows, body, "train.hw.tsv", "row 1", "no tab")


def test_broken_size(rows, body):
    edit(rows.with_name("train.hw.tsv"), lambda lines: replace_column(lines, 1, 1, b"sixty"))
    refuse(rows, body, "train.hw.tsv", "row 1", "seq/image_001.jpg", "sixty")


@pytest.mark.parametrize(
    ("linelist", "words"),
    [
        ("0\n999\n", ("row 999", "5 rows")),
        ("-6\n", ("row -6",)),
        ("0\n1\n\n", ("line 3",)),
        ("0\nx\n", ("line 2", "x")),
        ("0\t1\n", ("line 1", "one row number")),
    ],
)
def test_broken_linelist(rows, body, linelist, words):
    rows.with_name("train.linelist.tsv").write_text(linelist)
    refuse(rows, body, "train.linelist.tsv", *words)


def test_files_of_different_length_without_a_linelist(rows, body):
    edit(rows.with_name("train.label.tsv"), lambda lines: lines.pop())
    rows.write_text("img: train.img.tsv\nlabel: train.label.tsv\n")
    refuse(rows, body, "train.yaml", "equally many rows")


def test_hand_rows_for_a_body_model(tmp_path, body, hand):
    yaml_path = write_dataset(tmp_path, hand, 2)
    refuse(yaml_path, body, "21 joints", "24", "smpl")


# ------------------------------------------------------------------------------------ stale index


@pytest.mark.parametrize("shift", [-3, 2])
def test_index_of_another_file(rows, body, shift):
    """Offsets inside the file but between rows: METRO would read garbage."""
    index = rows.with_name("train.label.lineidx")
    first, *others = index.read_text().split()
    index.write_text("\n".join([first, *(str(int(offset) + shift) for offset in others)]))
    refuse(rows, body, "train.label.tsv", "row", "build_lineidx")


def test_index_in_characters_is_refused_and_can_be_built_again(tmp_path):
    """METRO's writer counts characters: wrong from the first key that is not ASCII."""
    path = tmp_path / "x.tsv"
    lines = ["ä\t1\n", "b\t2\n", "c\t3\n"]
    path.write_text("".join(lines), encoding="utf-8")
    (tmp_path / "x.lineidx").write_text("0\n4\n8\n")
    with pytest.raises(DataError, match=r"row [01].*x\.lineidx"):
        [TsvFile(path).read_row(i) for i in range(3)]
    assert build_lineidx(path) == 3
    assert TsvFile(path).read_row(2) == [b"c", b"3"]


@pytest.mark.parametrize("text", ["0\n5\n5\n", "0\n9\n4\n", "3\n9\n", "0\nfive\n", "0\n-1\n"])
def test_impossible_index(tmp_path, text):
    (tmp_path / "x.tsv").write_text("a\t1\nb\t2\nc\t3\n")
    (tmp_path / "x.lineidx").write_text(text)
    with pytest.raises(DataError, match=r"x\.lineidx"):
        TsvFile(tmp_path / "x.tsv")


def test_no_such_row(rows, body):
    with pytest.raises(DataError, match="row 7"):
        open_dataset(rows, body).row(7)


def test_long_last_rows_are_read_whole(tmp_path):
    path = tmp_path / "x.tsv"
    long = b"a\t" + b"x" * 200_000
    path.write_bytes(b"k\t1\n" + long + b"\n" + b"extra\n")
    (tmp_path / "x.lineidx").write_text("0\n4\n")
    assert TsvFile(path).read_row(1) == long.split(b"\t")
    shutil.rmtree(tmp_path)
