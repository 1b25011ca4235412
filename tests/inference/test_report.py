import numpy as np
import pytest
from pages import Page
from result_tables import make_table, write_results

from metro_ray.errors import DataError
from metro_ray.inference.report import write_report
from metro_ray.inference.report_rows import ErrorPicture, Pictures, color_limit_mm


def page_of(path):
    page = Page(path.read_text(encoding="utf-8"))
    page.require_self_contained()
    return page


@pytest.fixture
def sample(tmp_path):
    return write_results(tmp_path / "run", make_table(30))


def test_figures_stand_with_counts_protocol_and_mean_mesh(sample, tmp_path):
    path = write_report(
        tmp_path / "out" / "report.html", sample, title="A <run>", baseline={"mpve_mm": 321.5}
    )
    page, means = page_of(path), sample.figures.means
    assert page.text.startswith("A <run> A <run>")
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "mpve_mm", "pa_mpve_mm"):
        assert f"{means[name]:.2f} mm" in page.text
    assert f"AUC@150mm {100 * means['auc']:.1f} % - area under the PCK curve" in page.text
    assert f"MPVE {means['mpve_mm']:.2f} mm 321.50 mm mean vertex error" in page.text
    assert "30 rows, 30 with 3D joints, 30 with a mesh, 20 frames" in page.text
    assert "Crops box of the label row, side 200 px x scale" in page.text
    assert "3 processes, batches of 30" in page.text
    assert f"MPVE 81.50 {means['mpve_mm']:.2f}" in page.text
    assert "torch 9.9" in page.text
    assert "model.mesh anny_body auto" in page.text


def test_open_data_is_not_compared_with_published_figures(sample, tmp_path):
    page = page_of(write_report(tmp_path / "report.html", sample, title="Run"))
    assert "cannot be compared with published ones: the data set has no published" in page.text
    assert "Mesh Graphormer" not in page.text


def test_metros_own_protocol_is_compared_with_published_figures(tmp_path):
    settings = {"model.mesh": "smpl", "data.val_yaml": "3dpw/test.yaml"}
    sample = write_results(tmp_path / "run", make_table(8), overrides=settings)
    page = page_of(write_report(tmp_path / "report.html", sample, title="Run"))
    means = sample.figures.means
    errors = [f"{means[name]:.1f}" for name in ("mpjpe_mm", "pa_mpjpe_mm", "mpve_mm")]
    assert f"this evaluation METRO's {' '.join(errors)}" in page.text
    assert "METRO (HRNet-W64) METRO's 77.1 47.9 88.3" in page.text


def test_augmentation_is_shown_beside_one_view(sample, tmp_path):
    table = sample.table._replace(pa_mpjpe=sample.table.pa_mpjpe - 0.001)
    fused = write_results(tmp_path / "fused", table)
    page = page_of(write_report(tmp_path / "r.html", sample, title="Run", augmented=fused))
    plain = sample.figures.means["pa_mpjpe_mm"]
    expected = f"PA-MPJPE {plain:.2f} {plain - 1:.2f} -1.00 -1.00 to -1.00 30 0 30"
    assert expected in page.text
    other = write_results(
        tmp_path / "other", table._replace(keys=tuple(f"x{key}" for key in table.keys))
    )
    with pytest.raises(DataError, match="no row in common"):
        write_report(tmp_path / "r.html", sample, title="Run", augmented=other)


def test_rows_to_look_at_are_told_for_those_who_do_not_see_them(sample, tmp_path):
    grey = np.full((8, 8, 3), 90, np.uint8)
    errors = {"MPVE": 12.34, "MPJPE": float("nan")}
    item = ErrorPicture(group="worst", key="a&b.jpg", errors_mm=errors, panels={"photo": grey})
    pictures = Pictures(items=[item], most_mm=70.0, ranked_by="MPVE")
    page = page_of(write_report(tmp_path / "r.html", sample, title="Run", pictures=pictures))
    assert "Worst rows a&b.jpg MPVE 12.3 mm photo" in page.text
    assert "70 mm and more. Rows are ranked by MPVE." in page.text
    assert "Best rows" not in page.text
    assert "a&b.jpg: photo. MPVE 12.3 mm" in page.labels


def test_colours_reach_to_a_round_number_that_outliers_do_not_set():
    errors = np.full(1000, 31.0, np.float32)
    errors[:10] = 900.0
    assert color_limit_mm([errors, errors]) == 40.0
    assert color_limit_mm([]) == 10.0


def test_without_joint_labels_the_page_has_what_there_is(tmp_path):
    table = make_table(5, joints=np.zeros(5, bool))
    page = page_of(
        write_report(tmp_path / "r.html", write_results(tmp_path, table), title="Meshes")
    )
    assert "MPVE of each row" in page.text
    assert "Error by joint" not in page.text
    assert "nan" not in page.text
