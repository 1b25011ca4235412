"""Checking data sets: each fault is planted alone and found under its name; clean rows give none."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from clean_rows import MemoryRows, clean_image, clean_label, clean_row, clean_rows, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metro_ray.bodies.spec import get_spec
from metro_ray.data import ParquetDatasetWriter, TsvDatasetWriter, TsvFile, build_lineidx
from metro_ray.data.check import check_dataset, guess_kind, spread_rows, unopened_report
from metro_ray.data.check_find import find_row, near_keys
from metro_ray.data.check_image import inspect_image
from metro_ray.data.check_label import inspect_label
from metro_ray.data.check_row import inspect_row
from metro_ray.data.check_rules import RULES
from metro_ray.data.check_show import describe_row
from metro_ray.data.check_tally import MAX_DISTINCT, MAX_EXAMPLES, OTHERS, Example, Tally
from metro_ray.data.check_text import to_json, to_text
from metro_ray.data.dataset import open_dataset
from metro_ray.errors import DataError

SMPL = get_spec("smpl")
ODD = 2
"""The row in which faults are planted."""


def found(report):
    """Codes of a report with how often each was found."""
    return {finding.code: finding.count for finding in report.findings}


def with_odd(row):
    dataset = clean_rows()
    dataset.rows[ODD] = row
    return dataset


def joints_2d(**columns):
    joints = np.array(clean_label(SMPL, ODD)["2d_joints"])
    for name, value in columns.items():
        joints[:, "xyc".index(name)] = value
    return joints.tolist()


def joints_3d(factor=(1, 1, 1), confidence=1.0):
    joints = np.array(clean_label(SMPL, ODD)["3d_joints"])
    return np.column_stack([joints[:, :3] * factor, np.full(24, confidence)]).tolist()


def without(*names):
    return {name: value for name, value in clean_label(SMPL, ODD).items() if name not in names}


def nan_at(name):
    values = np.array(clean_label(SMPL, ODD)[name])
    values.reshape(-1)[0] = np.nan
    return values.tolist()


def one_turn_too_many():
    pose = np.full(72, 0.1)
    pose[3] = 7.0
    return pose.tolist()


BOX = {"has_2d_joints": 0}  # so that only the box is judged, not where the joints lie in it
LABELS = [
    ("field-missing", without("pose")),
    ("field-unknown", {"comment": "a"}),
    ("label-wrong", {"has_2d_joints": 2}),
    ("label-wrong", {"scale": "wide"}),
    ("label-wrong", {"pose": [0.1] * 71}),
    ("joint-count", {"2d_joints": [[1, 1, 1]] * 21, "3d_joints": [[0, 0, 0, 1]] * 21}),
    ("not-finite", {"3d_joints": nan_at("3d_joints")}),
    ("not-finite", {"pose": nan_at("pose")}),
    ("box-wrong", {"center": [float("nan"), 3.0]}),
    ("body-unknown", {"body_model": "flame"}),
    ("unlabelled", {"has_smpl": 0, "has_2d_joints": 0, "has_3d_joints": 0}),
    ("box-wrong", {"scale": 0.0}),
    ("box-wrong", {"scale": 1e4}),
    ("box-outside", {"center": [400.0, 30.0], **BOX}),
    ("box-mostly-outside", {"center": [0.0, 0.0], **BOX}),
    ("box-partly-outside", {"center": [15.0, 30.0], **BOX}),
    ("box-misses-joints", {"center": [70.0, 50.0], "scale": 0.1}),
    ("joints-2d-outside", {"2d_joints": joints_2d(x=[*range(30, 53), 90]), "has_3d_joints": 0}),
    ("joints-2d-normalised", {"2d_joints": joints_2d(x=0.5, y=-0.5), "has_3d_joints": 0}),
    ("joints-2d-unseen", {"2d_joints": joints_2d(c=0)}),
    ("confidence-range", {"2d_joints": joints_2d(c=2)}),
    ("confidence-range", {"3d_joints": joints_3d(confidence=-1)[:3] + joints_3d()[3:]}),
    ("joints-3d-millimetres", {"3d_joints": joints_3d([1000] * 3)}),
    ("joints-3d-centimetres", {"3d_joints": joints_3d([100] * 3)}),
    ("joints-3d-range", {"3d_joints": joints_3d([1e-3] * 3)}),
    ("joints-3d-unseen", {"3d_joints": joints_3d(confidence=0)}),
    ("joints-disagree", {"3d_joints": joints_3d([1, -1, 1])}),
    ("pose-degrees", {"pose": [40.0, *[0.1] * 71]}),
    ("pose-range", {"pose": one_turn_too_many()}),
    ("betas-range", {"betas": [9.0, *[0.0] * 9]}),
    ("mesh-placeholder", {"pose": [1.0] * 72}),
]


@pytest.mark.parametrize(("code", "changes"), LABELS)
def test_a_planted_label_fault_is_found_alone_and_named(code, changes):
    row = clean_row(SMPL, ODD)
    label = changes if code == "field-missing" else {**row.label, **changes}
    report = check_dataset(with_odd(row._replace(label=label)))
    assert found(report) == {code: 1}
    example = report.findings[0].examples[0]
    assert (example.row_id, example.key) == (ODD, row.key)
    assert example.detail


def exif_turned():
    data = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(clean_image()).copy()).save(data, "JPEG", exif=exif)
    return data.getvalue()


IMAGES = [
    ("image-broken", b"no picture"),
    ("image-broken", b""),
    ("image-cut", encode(clean_image())[:-300]),
    ("image-cut", encode(clean_image(), ".png")[:-300]),
    ("image-size", encode(clean_image()[:50])),
    ("image-turned", exif_turned()),
    ("image-grey", encode(np.repeat(clean_image()[:, :, :1], 3, axis=2))),
    ("image-blank", encode(np.full((60, 80, 3), 90, np.uint8), ".png")),
]


@pytest.mark.parametrize(("code", "data"), IMAGES)
def test_a_planted_image_fault_is_found_alone_and_named(code, data):
    report = check_dataset(with_odd(clean_row(SMPL, ODD)._replace(image_bytes=data)))
    assert found(report) == {code: 1}
    assert report.findings[0].examples[0].row_id == ODD


def test_swapped_sizes_are_said_to_be_swapped():
    facts = inspect_image(encode(clean_image()), (80, 60))
    assert facts.size == (60, 80)
    assert "swapped" in facts.problems[0].detail


def test_the_usual_mistake_behind_disagreeing_joints_is_named():
    flipped = clean_row(SMPL, ODD, **{"3d_joints": joints_3d([1, -1, 1])})
    detail = check_dataset(with_odd(flipped)).findings[0].examples[0].detail
    assert "y points down" in detail


@pytest.mark.parametrize("name", ["smpl", "mano", "anny_body", "anny_hand"])
def test_clean_rows_give_no_findings(name):
    report = check_dataset(clean_rows(name))
    assert report.findings == ()
    assert report.kind == get_spec(name).kind
    source = report.tally.sources[0]
    assert source.rows == source.mesh == source.joints_3d == source.keypoints_2d == 6
    assert source.unreadable == 0
    assert source.sizes == {"80 x 60": 6}
    assert report.tally.histograms["box_side_px"].sum() == 6
    assert "Nothing was found." in to_text(report)


# files: what only data sets of several files can have


def write_tsv(folder, name="train", rows=range(6), **keys):
    with TsvDatasetWriter(folder, name) as writer:
        for number in rows:
            row = clean_row(SMPL, number)
            writer.add(keys.get(f"row{number}", row.key), row.image_bytes, row.label, 60, 80)
    return folder / f"{name}.yaml"


def edit(path, old, new):
    content = path.read_bytes()
    assert content.count(old) == 1
    assert len(old) == len(new), "the line index must still fit"
    path.write_bytes(content.replace(old, new))


def test_clean_files_give_no_findings(tmp_path):
    assert check_dataset(open_dataset(write_tsv(tmp_path))).findings == ()


@pytest.mark.parametrize("part", ["img", "label", "hw"])
def test_a_row_that_cannot_be_read_is_found_and_the_check_goes_on(tmp_path, part):
    path = write_tsv(tmp_path)
    file = tmp_path / f"train.{part}.tsv"
    key = clean_row(SMPL, ODD).key.encode()
    tail = file.read_bytes().split(key + b"\t")[1][:1]
    edit(file, key + b"\t" + tail, key + b"\t" + b"*")
    report = check_dataset(open_dataset(path))
    assert found(report) == {"row-broken": 1}
    assert report.findings[0].examples[0].row_id == ODD
    assert report.tally.sources[0].rows == 6
    assert report.tally.sources[0].unreadable == 1


@pytest.mark.parametrize("part", ["img", "label", "hw"])
def test_keys_that_differ_between_files_are_found(tmp_path, part):
    path = write_tsv(tmp_path)
    edit(tmp_path / f"train.{part}.tsv", b"seq/0/002.jpg", b"seq/0/992.jpg")
    report = check_dataset(open_dataset(path))
    assert found(report) == {"key-differs": 1}
    assert "992" in report.findings[0].examples[0].detail
    assert f"train.{part}.tsv" in report.findings[0].examples[0].detail


def test_files_of_different_lengths_are_found(tmp_path):
    path = write_tsv(tmp_path)
    with (tmp_path / "train.hw.tsv").open("ab") as file:
        file.write(b"seq/0/006.jpg\t60 80\n")
    build_lineidx(tmp_path / "train.hw.tsv")
    report = check_dataset(open_dataset(path))
    assert found(report) == {"row-counts": 1}
    assert "train.hw.tsv: 7" in report.findings[0].examples[0].detail


def test_two_rows_with_one_key_are_found(tmp_path):
    path = write_tsv(tmp_path, row4="seq/0/001.jpg")
    report = check_dataset(open_dataset(path))
    assert found(report) == {"key-twice": 1}
    assert report.findings[0].examples == (Example(4, "seq/0/001.jpg", "as row 1"),)


def test_rows_that_a_linelist_repeats_are_found_and_are_no_double_keys(tmp_path):
    path = write_tsv(tmp_path)
    (tmp_path / "train.linelist.tsv").write_text("0\n3\n3\n1\n-3\n")
    report = check_dataset(open_dataset(path))
    assert found(report) == {"row-repeated": 2}
    assert [example.row_id for example in report.findings[0].examples] == [2, 4]


def test_an_empty_data_set_is_an_error(tmp_path):
    path = write_tsv(tmp_path)
    (tmp_path / "train.linelist.tsv").write_text("")
    report = check_dataset(open_dataset(path))
    assert found(report) == {"no-rows": 1}
    assert report.count("error") == 1


def test_a_data_set_that_cannot_be_opened_has_a_report():
    report = unopened_report("train.yaml", "the index is missing")
    assert found(report) == {"cannot-open": 1}
    assert "the index is missing" in to_text(report)


def test_a_source_without_labels_of_a_kind_is_noted():
    rows = [clean_row(SMPL, number) for number in range(3)]
    rows += [clean_row(SMPL, number, source=1, has_smpl=0) for number in range(3)]
    report = check_dataset(MemoryRows(rows, ("people", "joints only")))
    assert found(report) == {"kind-absent": 1}
    assert report.findings[0].examples[0].detail == "joints only: no row has mesh labels"


def test_every_kind_of_finding_has_a_test():
    planted = {code for code, _ in (*LABELS, *IMAGES)}
    elsewhere = {
        "cannot-open",
        "no-rows",
        "row-counts",
        "row-broken",
        "key-differs",
        "key-twice",
        "row-repeated",
        "kind-absent",
    }
    assert planted | elsewhere == set(RULES)


def test_the_documentation_lists_every_kind_of_finding():
    page = Path(__file__).parents[2] / "docs" / "data-check.md"
    listed = re.findall(r"^\| `([a-z0-9-]+)` \| (\w+) \| (.*) \| (.*) \|$", page.read_text(), re.M)
    assert listed == [(code, *rule) for code, rule in RULES.items()]


def test_mixtures_and_parquet_are_checked_alike(tmp_path):
    plain = write_tsv(tmp_path)
    with ParquetDatasetWriter(tmp_path, "odd") as writer:
        for number in range(6):
            changes = {"betas": [9.0] * 10} if number == ODD else {}
            row = clean_row(SMPL, number, **changes)
            writer.add(row.key, row.image_bytes, row.label, 60, 80)
    sources = [{"name": "plain", "data": str(plain)}, {"name": "odd", "data": "odd.parquet"}]
    mixture = tmp_path / "mixture.yaml"
    mixture.write_text(yaml.safe_dump({"mixture": sources}))
    report = check_dataset(open_dataset(mixture))
    assert found(report) == {"betas-range": 1}
    assert report.findings[0].examples[0].row_id == 6 + ODD
    rows = {source["name"]: source["rows"] for source in to_json(report)["sources"]}
    assert rows == {"plain": 6, "odd": 6}


# the check as a whole


def test_several_processes_find_what_one_finds(tmp_path):
    path = write_tsv(tmp_path, rows=range(150), row140="seq/0/001.jpg")
    edit(tmp_path / "train.hw.tsv", b"seq/0/002.jpg", b"seq/0/992.jpg")
    dataset = open_dataset(path)
    alone, together = check_dataset(dataset), check_dataset(dataset, workers=2)
    assert found(alone) == {"key-differs": 1, "key-twice": 1}
    assert to_json(alone) == to_json(together)


def test_a_data_set_without_one_readable_row_has_a_report():
    rows = [clean_row(SMPL, number)._replace(image_bytes=b"", label={}) for number in range(3)]
    report = check_dataset(MemoryRows(rows))
    assert found(report) == {"field-missing": 3, "image-broken": 3}
    text = to_text(report)
    assert "memory     3       0     0          0          0  unknown" in text
    assert "joints: none" in text


def test_a_sample_is_spread_over_the_rows():
    rows = spread_rows(1000, 5)
    assert list(rows) == [0, 250, 500, 749, 999]
    report = check_dataset(clean_rows(num_rows=9), sample=4)
    assert (report.num_rows, report.num_checked) == (9, 4)
    assert list(spread_rows(3, 10)) == [0, 1, 2]


def test_a_body_model_of_the_other_kind_is_not_known_here():
    dataset = with_odd(clean_row(SMPL, ODD, body_model="mano"))
    assert found(check_dataset(dataset)) == {"body-unknown": 1}


def test_the_kind_is_that_of_the_first_row_that_can_be_read():
    rows = clean_rows("mano")
    rows.rows[0] = rows.rows[0]._replace(label={})
    assert guess_kind(rows) == "hand"
    assert guess_kind(MemoryRows([])) == "body"


def test_the_report_is_json_and_names_first_rows_only():
    rows = [clean_row(SMPL, number, comment="x") for number in range(MAX_EXAMPLES + 5)]
    report = check_dataset(MemoryRows(rows))
    content = json.loads(json.dumps(to_json(report)))
    (finding,) = content["findings"]
    assert finding["count"] == MAX_EXAMPLES + 5
    assert [example["row_id"] for example in finding["examples"]] == list(range(MAX_EXAMPLES))
    assert content["label_fields"]["comment"] == MAX_EXAMPLES + 5
    assert finding["severity"] == "note"


row_problems = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from(sorted(RULES)), st.integers(0, 700)),
    max_size=60,
)


@settings(deadline=None)
@given(row_problems, st.randoms(use_true_random=False))
def test_tallies_of_parts_merge_to_that_of_the_whole(problems, random):
    def tally(items):
        made = Tally()
        for row_id, code, size in items:
            made.add_found(code, Example(row_id, f"row{row_id}", code))
            made.count(made.source(row_id % 3).sizes, f"{size}")
            made.add_numbers("box_side_px", [size])
        return made

    whole, merged = tally(problems), Tally()
    parts = [problems[start::4] for start in range(4)]
    random.shuffle(parts)
    for part in parts:
        merged.merge(tally(part))
    assert merged.found == whole.found
    assert merged.sources == whole.sources
    assert {n: c.tolist() for n, c in merged.histograms.items()} == {
        n: c.tolist() for n, c in whole.histograms.items()
    }


def test_a_tally_does_not_grow_with_the_number_of_names():
    tally = Tally()
    for number in range(3 * MAX_DISTINCT):
        tally.count(tally.fields, f"field{number}")
    assert len(tally.fields) == MAX_DISTINCT + 1
    assert tally.fields[OTHERS] == 2 * MAX_DISTINCT


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*clean_label(SMPL), "gender", "other"]), json_values))
def test_no_label_stops_the_check(changes):
    row = clean_row(SMPL, ODD)
    report = check_dataset(MemoryRows([row._replace(label={**row.label, **changes}), row]))
    assert report.tally.sources[0].rows == 2
    inspect_label(changes, "hand")


@pytest.mark.parametrize("name", ["center", "scale", "2d_joints", "3d_joints", "pose", "betas"])
@pytest.mark.parametrize("value", [1e300, -1e300, 1e-300])
def test_absurd_numbers_are_found_and_do_not_stop_the_check(name, value):
    label = clean_label(SMPL, ODD)
    label[name] = (np.zeros(np.shape(label[name])) + value).tolist()
    report = check_dataset(with_odd(clean_row(SMPL, ODD)._replace(label=label)))
    rows = {example.row_id for finding in report.findings for example in finding.examples}
    assert rows == (set() if (name, value) == ("betas", 1e-300) else {ODD})


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n"]))
def test_no_image_stops_the_check(data, start):
    facts = inspect_image(start + data, (60, 80))
    assert facts.size is None
    assert {problem.code for problem in facts.problems} <= {"image-broken", "image-cut"}


# single rows


def test_a_row_is_found_by_its_key_and_others_with_it_are_named():
    dataset = clean_rows()
    dataset.rows.append(dataset.rows[3])
    assert find_row(dataset, "seq/0/003.jpg") == (3, [6])


def test_an_unknown_key_names_near_ones():
    dataset = clean_rows()
    assert near_keys(dataset, "004") == ["seq/0/004.jpg"]
    assert near_keys(dataset, "seq/O/004.jpg")[0] == "seq/0/004.jpg"
    assert near_keys(dataset, "%%%%") == []
    with pytest.raises(DataError, match=r"no row has the key.*near ones: seq/0/004\.jpg.*--row"):
        find_row(dataset, "004")


def test_a_row_is_told_in_words():
    row = clean_row(SMPL, ODD, comment="c" * 500)
    dataset = with_odd(row)
    text = describe_row(dataset, inspect_row(dataset, ODD, "body"))
    assert row.where in text
    assert "JPEG" in text
    assert "80 x 60 px" in text
    assert "side 50.0 px (x 15.0 to 65.0, y 5.0 to 55.0)" in text
    assert "labels: mesh, 3D joints, 2D joints; body model smpl" in text
    assert "2d_joints: 24 x 3 numbers" in text
    assert "field-unknown" in text
    assert max(map(len, text.splitlines())) < 200


def test_keys_are_read_without_the_rest_of_the_line(tmp_path):
    long_key = "k" * 3000
    path = tmp_path / "x.tsv"
    path.write_bytes(b"a\tb\n" + long_key.encode() + b"\t" + b"x" * 5000 + b"\nalone\r\nlast")
    build_lineidx(path)
    file = TsvFile(path)
    assert [file.read_key(row) for row in range(4)] == [b"a", long_key.encode(), b"alone", b"last"]
    with pytest.raises(DataError, match="row 4 does not exist"):
        file.read_key(4)
