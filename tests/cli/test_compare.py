"""`metro-ray compare` from two folders to a table and a page."""

import pytest
from pages import Page
from result_tables import make_table, write_results

from metro_ray.cli.main import main


@pytest.fixture
def two(tmp_path):
    for name, factor, rate in (("old", 1.0, 1e-4), ("new", 0.9, 3e-4)):
        write_results(tmp_path / name, make_table(20, factor=factor), overrides={"optim.lr": rate})
    return [str(tmp_path / name) for name in ("old", "new")]


def test_a_table_is_printed(two, capsys):
    assert main(["compare", *two, "--rows", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        f"A  {two[0]}  (epoch-001.parquet, 20 rows)",
        f"B  {two[1]}  (epoch-001.parquet, 20 rows)",
        "20 rows in both, paired by number and key",
    ]
    figure = next(line for line in lines if line.startswith("MPVE")).split()
    assert float(figure[2]) == pytest.approx(0.9 * float(figure[1]), abs=0.01)
    assert figure[-3:] == ["*", "20", "0"]
    assert sum(line.startswith("seq/image_") for line in lines) == 2
    assert lines[-1].split() == ["optim.lr", "0.0001", "0.0003"]


def test_a_page_is_written_and_says_why_it_has_no_pictures(two, tmp_path, capsys):
    out = tmp_path / "pages" / "compare.html"
    assert main(["compare", *two, "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith(f"\nwritten: {out}\n")
    assert "no pictures: the checkpoint of" in captured.err
    page = Page(out.read_text(encoding="utf-8"))
    page.require_self_contained()
    assert "No pictures: the checkpoint of" in page.text
    for words in ("MPVE of each row, B minus A", "optim.lr 0.0001 0.0003", "Less MPVE in B"):
        assert words in page.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda old, new: [old, new + "/none"], "none do not exist"),
        (lambda old, new: [old, new + "/.."], "has no per-sample results"),
    ],
)
def test_what_cannot_be_compared_is_a_message(two, change, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["compare", *change(*two)])
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.out == ""


def test_runs_on_other_data_are_a_message(two, tmp_path, capsys):
    table = make_table(3)
    write_results(tmp_path / "other", table._replace(keys=("a", "b", "c")))
    with pytest.raises(SystemExit):
        main(["compare", two[0], str(tmp_path / "other")])
    assert "have no row in common (same number and key)" in capsys.readouterr().err
