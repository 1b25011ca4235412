"""Evaluations on their own, and two runs compared, from files to pages."""

import re

import pytest
from pages import Page

from metro_ray.cli.main import main
from metro_ray.evaluation.per_sample import find_results
from metro_ray.training.context import LocalWorker
from metro_ray.training.data_source import LocalDataSource
from metro_ray.training.loop import fit

from .conftest import small_config
from .test_files_to_result import write


@pytest.fixture(scope="module")
def runs(body, tmp_path_factory):
    """Two trainings of different length on the same rows, and an evaluation of the second."""
    folder = tmp_path_factory.mktemp("runs")
    files = {
        "data__train_yaml": write(folder, body, "train", range(6)),
        "data__val_yaml": write(folder, body, "val", range(10, 19), broken=(12,)),
        "data__loader_workers": 1,
        "data__max_bad_rows": 2,
    }

    def run(name, **changes):
        config = small_config(folder / name, eval__gallery_images=2, **files, **changes)
        return fit(config, LocalWorker(), LocalDataSource(config, body.spec), body=body)

    run("short", optim__epochs=1)
    trained = run("long", optim__epochs=3, optim__lr=0.01)
    run("evaluated", eval__only=True, run__resume_checkpoint=str(trained.checkpoint))
    return folder


def test_an_evaluation_leaves_a_page_with_its_protocol_and_rows(runs):
    page = Page((runs / "evaluated" / "report.html").read_text(encoding="utf-8"))
    page.require_self_contained()
    sample = find_results(runs / "evaluated")
    assert sample.meta["epoch"] == 0
    assert "image_12.png" not in sample.table.keys
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "mpve_mm"):
        assert f"{sample.figures.means[name]:.2f} mm" in page.text
    assert "evaluated: METRO body, tiny, evaluated Weights: " in page.text
    assert "1 rows could not be read; result.json lists them." in page.text
    assert "mean mesh" in page.text
    for words in ("Worst rows", "Best rows", "Error of each vertex: 0 mm", "Where it was measured"):
        assert words in page.text


def test_the_log_names_the_protocol_and_metros_own_averages(runs):
    log = (runs / "evaluated" / "log.txt").read_text(encoding="utf-8")
    assert re.search(
        r"INFO:METRO:Validation epoch: 0  mPVE: +\d+\.\d\d, mPJPE: +\d+\.\d\d, PAmPJPE: +\d+\.\d\d\n",
        log,
    )
    assert "Protocol open data; crops: box of the label row, side 200 px x scale" in log
    assert "METRO's own averaging of the same rows (1 processes, batches of" in log


def test_an_evaluation_of_a_runs_checkpoint_gives_the_runs_figures(runs):
    trained, alone = find_results(runs / "long"), find_results(runs / "evaluated")
    for name, value in trained.figures.means.items():
        assert alone.figures.means[name] == pytest.approx(value, rel=1e-4, nan_ok=True), name


def test_two_runs_are_compared_with_pictures_of_both(runs, body, monkeypatch, capsys):
    monkeypatch.setattr("metro_ray.inference.compare_pictures.load_body", lambda *_: body)
    out = runs / "compare.html"
    argv = ["compare", str(runs / "short"), str(runs / "long"), "--out", str(out), "--rows", "2"]
    assert main(argv) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "8 rows in both" in captured.out
    assert re.search(r"\noptim\.epochs +1 +3\n", captured.out)
    page = Page(out.read_text(encoding="utf-8"))
    page.require_self_contained()
    assert "8 rows in both" in page.text
    assert "Rows to look at" in page.text
    pictures = [label for label in page.labels if re.match(r"image_\d+\.png: ", label)]
    captions = {re.match(r"\S+: (.*?)\. ", label)[1] for label in pictures}
    assert captions == {"photo", "A", "B", "A, error", "B, error"}
    assert 2 * 5 <= len(pictures) <= 4 * 5


def test_rows_that_are_gone_cost_the_pictures_only(runs, body, monkeypatch, capsys):
    monkeypatch.setattr("metro_ray.inference.compare_pictures.load_body", lambda *_: body)
    moved = runs / "val.img.tsv"
    moved.rename(runs / "away.tsv")
    try:
        out = runs / "without.html"
        assert main(["compare", str(runs / "short"), str(runs / "long"), "--out", str(out)]) == 0
    finally:
        (runs / "away.tsv").rename(moved)
    assert "no pictures: " in capsys.readouterr().err
    assert "No pictures: " in out.read_text(encoding="utf-8")
