"""report.html: on one page what a run came to, while it goes on and when it is over."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from metro_ray.evaluation.per_sample import epoch_file, read_per_sample
from metro_ray.inference.line_chart import Line, line_chart
from metro_ray.training.context import LocalWorker
from metro_ray.training.data_source import LocalDataSource
from metro_ray.training.loop import fit

from .test_files_to_result import write


class Page(HTMLParser):
    """Headings, table cells, links and tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.words, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        self.open.append(tag)

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def pages(body, tmp_path_factory):
    """The page of a run that died in its third epoch, and of the same run when it was done."""
    from .conftest import small_config

    folder = tmp_path_factory.mktemp("report")
    config = small_config(
        folder / "run",
        data__train_yaml=write(folder, body, "train", range(6), broken=(2,)),
        data__val_yaml=write(folder, body, "val", range(10, 20)),
        data__loader_workers=1,
        optim__epochs=3,
        eval__gallery_images=2,
    )
    source = LocalDataSource(config, body.spec)
    batches = source.train_batches

    def dying(epoch, start_row=0):
        if epoch == 2:
            raise Killed
        return batches(epoch, start_row)

    source.train_batches = dying
    path = Path(config.run.output_dir) / "report.html"
    with pytest.raises(Killed):
        fit(config, LocalWorker("cpu"), source, body=body)
    died = path.read_text()
    last = path.parent / "checkpoints" / "last"
    done = fit(
        config,
        LocalWorker("cpu", checkpoint=last),
        LocalDataSource(config, body.spec),
        body=body,
        start_reason="rank(s) 1 were lost",
    )
    assert done.result["report"] == str(path)
    return Page(died), Page(path.read_text()), done.result


def test_pages_need_neither_network_nor_script(pages):
    for page in pages[:2]:
        assert "script" not in page.tags
        assert "link" not in page.tags
        names = [link for link in page.links if not link.startswith("data:")]
        assert all(re.fullmatch(r"[\w.]+", name) for name in names), names


def test_a_run_that_died_has_the_page_of_its_last_epoch(pages):
    died = pages[0].text
    assert "Written after epoch 2 of 3; the run had not ended." in died
    assert "Predictions after epoch 2" in died
    assert "The mean mesh is measured when the run is over." in died


def test_the_final_page_holds_errors_settings_starts_and_rows(pages):
    _, page, result = pages
    assert "Complete: 3 epochs, 9 steps." in page.text
    for name in ("val/mpve_mm", "baseline/mpve_mm"):
        assert f"{result[name]:.1f}" in page.text
    assert "open data" in page.text, "the protocol"
    assert "model.arch tiny hrnet-w64" in page.text
    assert "rank(s) 1 were lost" in page.text
    assert "image_2.png" in page.text
    assert "Worst rows" in page.text
    assert "Best rows" in page.text
    assert "Error of each vertex: 0 mm" in page.text
    assert result["versions"]["torch"] in page.text
    assert result["code"] in page.text
    assert "gallery.html" in page.links


def test_rows_are_shown_with_the_errors_that_they_were_ranked_by(pages):
    _, page, result = pages
    folder = Path(result["report"]).parent
    table = read_per_sample(epoch_file(folder, result["checkpoint_epoch"])).table
    measured = dict(zip(table.keys, 1000.0 * table.mpve, strict=True))
    shown = re.findall(
        r"(image_\d+\.png) MPJPE [\d.]+ mm, PA-MPJPE [\d.]+ mm, MPVE ([\d.]+) mm", page.text
    )
    assert len(shown) == 9
    for key, value in shown:
        assert float(value) == pytest.approx(measured[key], abs=0.06)
    errors = [float(value) for _, value in shown]
    assert min(errors[:3]) >= max(errors[3:6]) >= min(errors[3:6]) >= max(errors[6:])


def test_curves_of_losses_validation_speed_wait_and_memory_are_there(pages):
    _, page, _ = pages
    for title in (
        "Losses", "Validation errors", "Loss terms", "Learning rate", "Speed", "Time of a step",
        "Time spent waiting for data", "Memory", "Gradient",
    ):  # fmt: skip
        assert title in page.text
    assert "Loss by source" not in page.text, "there is one source only"
    assert page.tags.count("svg") == 9


def places(chart):
    [points] = re.findall(r'points="([^"]*)"', chart)
    return np.array([[float(n) for n in point.split(",")] for point in points.split()])


def test_a_chart_keeps_the_shape_of_its_curve():
    x = np.arange(1, 1001)
    chart = line_chart("Loss", "m", [Line("total", x, 10.0 ** (-x / 250))], log=True)
    points = places(chart)
    assert len(points) == 300, "long curves are thinned"
    steps = np.diff(points, axis=0)
    np.testing.assert_allclose(
        steps[:, 1] / steps[:, 0], np.median(steps[:, 1] / steps[:, 0]), rtol=0.2
    )
    assert (np.diff(points[:, 1]) > 0).all(), "down on the page"


def test_a_chart_leaves_out_what_does_not_exist():
    assert line_chart("Loss", "m", [Line("a", [1, 2], [np.nan, np.nan])]) == ""
    assert line_chart("Loss", "m", [Line("a", [], [])]) == ""
    assert len(places(line_chart("Loss", "m", [Line("a", [1, 2, 3], [1.0, np.nan, 2.0])]))) == 2
    assert "circle" in line_chart("Loss", "m", [Line("a", [1], [4.0])])
    assert (
        len(places(line_chart("Loss", "m", [Line("a", [1, 2, 3], [1.0, 0.0, 2.0])], log=True))) == 2
    )


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 1e5, 1e10])
@pytest.mark.parametrize("log", [False, True])
def test_axes_hold_every_value(scale, log):
    y = scale * np.array([1.0, 3.7, 0.02, 5.0])
    points = places(line_chart("Loss", "m", [Line("a", [1, 2, 3, 4], y)], log=log))
    assert (points[:, 1] > 0).all()
    assert np.array_equal(np.argsort(points[:, 1]), np.argsort(-y))
