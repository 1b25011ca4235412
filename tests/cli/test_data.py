"""`metro-ray data check` and `data show`: what is printed, written and returned."""

import json
import subprocess
import sys

import pytest
from clean_rows import clean_row

from metro_ray.bodies.spec import get_spec
from metro_ray.cli.data import COMMANDS
from metro_ray.cli.main import main
from metro_ray.data import TsvDatasetWriter, build_lineidx

BODY = get_spec("anny_body")


@pytest.fixture
def write(tmp_path):
    """Write a data set of six rows; changes of the label of row 2."""

    def write_rows(**changes):
        with TsvDatasetWriter(tmp_path / "data", "train") as writer:
            for number in range(6):
                row = clean_row(BODY, number, **(changes if number == 2 else {}))
                writer.add(row.key, row.image_bytes, row.label, 60, 80)
        return str(tmp_path / "data" / "train.yaml")

    return write_rows


def exit_status(argv):
    try:
        return main(argv)
    except SystemExit as stop:
        return stop.code


def test_clean_rows_end_with_0(write, capsys):
    assert main(["data", "check", write()]) == 0
    out = capsys.readouterr()
    assert "Nothing was found." in out.out
    assert "6 of 6 rows checked: 0 errors, 0 warnings, 0 notes" in out.out
    assert "6/6" in out.err


def test_errors_end_with_1_and_are_told_with_row_and_advice(write, capsys):
    assert main(["data", "check", write(scale=0.0), "--workers", "2"]) == 1
    out = capsys.readouterr().out
    assert "ERROR box-wrong" in out
    assert "row 2 (seq/0/002.jpg): box scale must be > 0" in out
    assert "-> box side = 200 px x scale" in out


def test_warnings_alone_end_with_0(write, capsys):
    assert main(["data", "check", write(betas=[7.0] * 6)]) == 0
    assert "WARNING betas-range" in capsys.readouterr().out


def test_out_writes_text_json_and_html(write, tmp_path, capsys):
    path = write(betas=[7.0] * 6)
    folder, json_file = tmp_path / "new" / "report", tmp_path / "also.json"
    status = main(["data", "check", path, "--out", str(folder), "--json", str(json_file)])
    assert status == 0
    assert sorted(file.name for file in folder.iterdir()) == [
        "report.html",
        "report.json",
        "report.txt",
    ]
    out = capsys.readouterr()
    assert (folder / "report.txt").read_text() == out.out
    assert json_file.read_text() == (folder / "report.json").read_text()
    (finding,) = json.loads(json_file.read_text())["findings"]
    assert (finding["code"], finding["count"]) == ("betas-range", 1)
    assert "betas-range" in (folder / "report.html").read_text()
    assert f"wrote {folder / 'report.html'}" in out.err


def test_a_place_that_cannot_be_written_is_said_before_the_check(write, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    status = exit_status(["data", "check", write(), "--out", str(tmp_path / "file" / "report")])
    out = capsys.readouterr()
    assert status == 2
    assert "cannot be written" in out.err
    assert out.out == ""


def test_a_sample_of_rows(write, capsys):
    assert main(["data", "check", write(scale=0.0), "--sample", "2"]) == 0
    assert "2 of 6 rows checked" in capsys.readouterr().out


def test_a_data_set_that_is_there_and_cannot_be_opened_is_a_finding(write, tmp_path, capsys):
    path = write()
    (tmp_path / "data" / "train.yaml").write_text("img: train.img.tsv\nlabel: train.label.tsv\n")
    label = tmp_path / "data" / "train.label.tsv"
    label.write_bytes(b"\n".join(label.read_bytes().split(b"\n")[:4]) + b"\n")
    build_lineidx(label)
    report = tmp_path / "report"
    assert main(["data", "check", path, "--out", str(report)]) == 1
    out = capsys.readouterr().out
    assert "ERROR cannot-open" in out
    assert "equally many rows" in out
    assert json.loads((report / "report.json").read_text())["rows"] == 0
    assert "equally many rows" in (report / "report.html").read_text()


@pytest.mark.parametrize(
    "argv",
    [
        ["data", "check"],
        ["data", "check", "nowhere.yaml"],
        ["data", "check", "nowhere.yaml", "--sample", "0"],
        ["data", "show", "nowhere.yaml", "key"],
        ["data", "show", "nowhere.yaml"],
        ["data", "show", "nowhere.yaml", "key", "--row", "1"],
        ["data", "show", "nowhere.yaml", "key", "--augment", "-1"],
        ["data", "chek"],
    ],
)
def test_wrong_usage_ends_with_2(argv, capsys):
    assert exit_status(argv) == 2
    err = capsys.readouterr().err
    assert err
    assert "Traceback" not in err


def test_unknown_command_names_the_near_one(capsys):
    assert main(["data", "chek"]) == 2
    assert "did you mean check?" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_without_heavy_imports(command):
    blocked = "import sys; sys.modules.update(torch=None, ray=None, pydantic=None, numpy=None)\n"
    code = f"from metro_ray.cli.main import main; sys.exit(main(['data', '{command}', '--help']))"
    done = subprocess.run(
        [sys.executable, "-c", blocked + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: metro-ray data {command}" in done.stdout


def test_show_by_key_prints_the_row_and_writes_its_picture(write, tmp_path, capsys, monkeypatch):
    path = write()
    monkeypatch.chdir(tmp_path)
    assert main(["data", "show", path, "seq/0/002.jpg", "--augment", "2"]) == 0
    out = capsys.readouterr()
    assert out.out.startswith("row 2: seq/0/002.jpg\n")
    assert "nothing odd was found" in out.out
    assert (tmp_path / "seq_0_002.png").read_bytes().startswith(b"\x89PNG")
    assert "wrote seq_0_002.png" in out.err


def test_show_by_number_ends_with_1_where_the_row_has_errors(write, tmp_path, capsys):
    picture = tmp_path / "row.png"
    path = write(scale=0.0)
    assert main(["data", "show", path, "--row", "2", "--out", str(picture)]) == 1
    assert "error box-wrong" in capsys.readouterr().out
    assert picture.is_file()


def test_show_of_an_unknown_key_or_number_helps(write, capsys):
    path = write()
    assert exit_status(["data", "show", path, "seq/0/02.jpg"]) == 2
    assert "near ones: seq/0/002.jpg" in capsys.readouterr().err
    assert exit_status(["data", "show", path, "--row", "9"]) == 2
    assert "row 9 does not exist, the data set has 6 rows" in capsys.readouterr().err
