"""A data check's page and a row's picture: whole, self-contained, and drawn where things are."""

import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from clean_rows import MemoryRows, clean_image, clean_label, clean_row, clean_rows, encode

from metro_ray.bodies import load_body
from metro_ray.bodies.spec import get_spec
from metro_ray.data.check import check_dataset, unopened_report
from metro_ray.data.check_row import inspect_row
from metro_ray.data.labels import parse_label
from metro_ray.inference.charts import histogram
from metro_ray.inference.data_report import render_report
from metro_ray.inference.data_report_pictures import LabelMeshes, label_picture
from metro_ray.inference.data_report_row import row_tiles, write_row_picture

BODY = get_spec("anny_body")


class Page(HTMLParser):
    """Tags of a page, with the check that they are closed in order."""

    empty = ("meta", "img", "br", "rect", "line")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.empty:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in self.empty:
            self.handle_data("")
            if self.open and self.open[-1] == tag:
                self.open.pop()
            return
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def posed():
    """A row whose label is a posed anny body seen by a camera of 40 px a metre."""
    import torch

    body = load_body("anny_body")
    pose = np.zeros(BODY.num_pose)
    pose[0] = np.pi
    betas = body.neutral_betas.numpy().astype(np.float64)
    with torch.no_grad():
        out = body(torch.from_numpy(pose).float()[None], torch.from_numpy(betas).float()[None])
    vertices, joints = out.vertices[0].numpy(), out.joints[0].numpy()
    root = body.root_from_mesh(out.vertices)[0].numpy()
    shift = np.array([40.0, 30.0])
    ones = np.ones(len(joints))
    label = clean_label(
        BODY,
        pose=pose.tolist(),
        betas=betas.tolist(),
        scale=0.4,
        **{
            "2d_joints": np.column_stack([30 * (joints - root)[:, :2] + shift, ones]).tolist(),
            "3d_joints": np.column_stack([joints, ones]).tolist(),
        },
    )
    pixels = 30 * (vertices - root)[:, :2] + shift
    return clean_row(BODY)._replace(label=label), pixels


def test_the_page_is_whole_and_needs_no_network():
    rows = [clean_row(BODY, number) for number in range(4)]
    rows.append(clean_row(BODY, 4)._replace(image_bytes=b"no picture"))
    rows.append(clean_row(BODY, 5, scale=0.0)._replace(key="<b>&.jpg"))
    rows.append(clean_row(BODY, 6, has_smpl=0, center=[90.0, 50.0]))
    dataset = MemoryRows(rows)
    text = render_report(dataset, check_dataset(dataset))
    page = Page(text)
    assert not re.search(r"https?://|//\w+\.\w+|@import|url\(", text)
    assert not page.named("script")
    images = page.named("img")
    assert len(images) >= 2 * 5
    assert all(
        image["alt"] and image["src"].startswith("data:image/jpeg;base64,") for image in images
    )
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.named("svg"))
    assert {f"row-{row}" for row in range(7)} == {
        a["id"] for a in page.named("article") if "id" in a
    }
    assert "<b>&.jpg" in page.words
    for code in ("image-broken", "box-wrong", "box-mostly-outside"):
        assert code in page.words
    targets = {link["href"] for link in page.named("a")}
    assert targets <= {f"#row-{row}" for row in range(7)}
    assert "#row-4" in targets


def test_colours_can_be_told_apart_from_the_ground_in_both_themes():
    """WCAG AA: 4.5 to 1 for text on cards, 3 to 1 for bars."""
    dataset = clean_rows("anny_body", 1)
    text = render_report(dataset, check_dataset(dataset))

    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    def contrast(a, b):
        high, low = sorted([luminance(a), luminance(b)], reverse=True)
        return (high + 0.05) / (low + 0.05)

    themes = [dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in text.split(":root")[1:]]
    assert len(themes) == 2
    for theme in themes:
        for ground in (theme["card"], theme["back"]):
            assert contrast(theme["text"], ground) >= 4.5
            assert contrast(theme["quiet"], ground) >= 4.5
            assert contrast(theme["accent"], ground) >= 3
    badges = re.findall(r"\.badge\.\w+ { background: (#\w{6})", text)
    assert len(badges) == 3
    assert all(contrast(badge, "#ffffff") >= 4.5 for badge in badges)


def test_a_data_set_that_cannot_be_opened_has_a_page():
    page = Page(render_report(None, unopened_report("x.yaml", "its <index> is missing")))
    assert "its <index> is missing" in page.words
    assert not page.named("img")


def test_a_missing_body_model_is_said(tmp_path):
    dataset = clean_rows("smpl", 2)
    page = Page(render_report(dataset, check_dataset(dataset), assets_root=tmp_path))
    assert "Meshes of smpl are not drawn" in page.words
    assert len(page.named("img")) == 4


def test_a_histogram_says_its_numbers_without_the_picture():
    svg = histogram("Boxes", "px", np.array([0.0, 10, 20, np.inf]), np.array([0, 3, 1]))
    assert 'aria-label="Boxes: 4 values, most (3) 10 to 20 px"' in svg
    heights = [float(h) for h in re.findall(r'<rect[^>]* height="([\d.]+)"', svg)]
    assert heights[0] == pytest.approx(3 * heights[1], rel=0.02)
    assert histogram("Boxes", "px", np.array([0.0, 1]), np.array([0])) == ""


def test_the_labels_mesh_lies_where_its_joints_are(posed):
    row, pixels = posed
    result = LabelMeshes().place(parse_label(row.label, BODY), BODY)
    assert result is not None
    assert np.abs(result.vertices_px[:, :2] - pixels).max() < 0.05
    assert result.vertices_px[:, 2].min() < 0 < result.vertices_px[:, 2].max()


@pytest.mark.parametrize("changes", [{"has_smpl": 0}, {"has_2d_joints": 0}])
def test_without_labels_there_is_no_mesh(posed, changes):
    row, _ = posed
    label = parse_label({**row.label, **changes}, BODY)
    assert LabelMeshes().place(label, BODY) is None


def test_the_mesh_is_placed_by_its_own_joints_where_the_label_has_none_in_3d(posed):
    row, pixels = posed
    label = parse_label({**row.label, "has_3d_joints": 0}, BODY)
    result = LabelMeshes().place(label, BODY)
    assert result is not None
    assert np.abs(result.vertices_px[:, :2] - pixels).max() < 0.05


def test_the_mesh_is_placed_by_its_own_joints_where_the_label_has_millimetres(posed):
    row, pixels = posed
    joints = np.array(row.label["3d_joints"]) * (1000, 1000, 1000, 1)
    label = parse_label({**row.label, "3d_joints": joints.tolist()}, BODY)
    result = LabelMeshes().place(label, BODY)
    assert result is not None
    assert np.abs(result.vertices_px[:, :2] - pixels).max() < 0.05


def test_box_and_joints_are_drawn_where_the_label_has_them():
    image = np.full((60, 80, 3), 128, np.uint8)
    joints = np.zeros((24, 3))
    joints[16] = (20, 40, 1)  # one joint, no bone
    label = parse_label(clean_label(BODY, **{"2d_joints": joints.tolist()}), BODY)
    picture = label_picture(image, label, BODY, 800)
    assert picture.shape == (600, 800, 3)
    assert picture[405, 205].tolist() == [250, 250, 250]
    assert picture[300, 300].tolist() == [128, 128, 128]
    yellow = (255, 202, 40)
    drawn = np.argwhere((np.abs(picture.astype(int) - yellow) < 4).all(axis=2))
    assert drawn.min(axis=0) == pytest.approx([55, 155], abs=2)  # box x 15 to 65, y 5 to 55
    assert drawn.max(axis=0) == pytest.approx([555, 655], abs=2)


def test_what_lies_outside_is_shown_on_grey():
    image = np.zeros((60, 80, 3), np.uint8)
    label = parse_label(clean_label(BODY, center=[0.0, 30.0], has_2d_joints=0), BODY)
    picture = label_picture(image, label, BODY, 800)
    assert picture[300, 30].tolist() == [226, 226, 226]
    assert picture[300, 790].tolist() == [0, 0, 0]


def test_a_rows_picture_shows_photo_crop_joints_mesh_and_augmentations(posed, tmp_path):
    row, _ = posed
    dataset = MemoryRows([row])
    facts = inspect_row(dataset, 0, "body")
    meshes = LabelMeshes()
    captions = [caption for caption, _ in row_tiles(facts, meshes, augment=3)]
    assert [caption.split()[0] for caption in captions] == [
        *("photo", "crop", "crop", "mesh:"),
        *["epoch"] * 3,
    ]
    path = write_row_picture(tmp_path / "new" / "row.png", facts, meshes, augment=3)
    assert path is not None
    sheet = cv2.imread(str(path))
    assert sheet is not None
    assert sheet.shape[0] > 2 * 448
    assert sheet.shape[1] > 4 * 448


def test_the_crop_is_what_the_network_sees(posed):
    row, _ = posed
    facts = inspect_row(MemoryRows([row]), 0, "body")
    _, crop = row_tiles(facts, LabelMeshes())[1]
    assert crop[5, 220].tolist() == [0, 0, 0]  # above the picture
    middle = clean_image()[30, 40].astype(int)
    assert np.abs(crop[224, 224].astype(int) - middle).max() < 25


@pytest.mark.parametrize(
    ("row", "tiles"),
    [
        (clean_row(BODY)._replace(image_bytes=b"no picture"), 0),
        (clean_row(BODY, scale=0.0), 1),
        (clean_row(BODY)._replace(label={}), 1),
        (clean_row(BODY)._replace(image_bytes=encode(clean_image(), ".png"), hw=None), 4),
    ],
)
def test_of_a_broken_row_is_shown_what_can_be(row, tiles, tmp_path):
    facts = inspect_row(MemoryRows([row]), 0, "body")
    assert len(row_tiles(facts, LabelMeshes())) == tiles
    path = write_row_picture(tmp_path / "row.png", facts, LabelMeshes())
    assert (path is not None) == (tiles > 0)
