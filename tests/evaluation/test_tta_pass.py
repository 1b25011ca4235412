"""All views in one pass give what METRO's separate passes give, however they are cut into batches."""

import cv2
import numpy as np
import pytest
import torch
from small_rows import write_rows
from torch import nn
from torch.profiler import profile
from toys import TOY_BODY, TOY_HAND

from metro_ray.bodies.body import BodyModel, BodyOutput
from metro_ray.bodies.levels import LevelData, VertexMap
from metro_ray.bodies.spec import get_spec
from metro_ray.data.augment import AugmentParams
from metro_ray.data.dataset import open_dataset
from metro_ray.data.labels import parse_label
from metro_ray.data.normalize import normalize_images
from metro_ray.data.transform import SampleTransform, decode_image
from metro_ray.errors import DataError
from metro_ray.evaluation.tta import PLAIN_VIEW, View, ViewFusion, fused_views, single_view
from metro_ray.evaluation.tta_pass import ViewLoader, ViewPredictor

SIX = (
    PLAIN_VIEW,
    View(0.7, 0.0),
    View(0.9, 10.0),
    View(1.0, -90.0),
    View(1.1, 40.0),
    View(0.8, -20.0),
)
HAND = get_spec("anny_hand")


class LinearBody(BodyModel):
    """A mesh of 40 vertices with fixed regressors; its layer is never asked."""

    def __init__(self, spec):
        rng = np.random.default_rng(0)
        coarse = spec.vertex_levels[:-1]
        weights = rng.uniform(0.0, 1.0, (spec.num_joints + 1, 40))
        weights /= weights.sum(axis=1, keepdims=True)
        picks = tuple(VertexMap(np.arange(n)[:, None], np.ones((n, 1))) for n in coarse)
        faces = np.stack([np.arange(38), np.arange(38) + 1, np.arange(38) + 2], axis=1)
        super().__init__(
            spec,
            faces=faces,
            joint_regressor=weights[1:],
            root_regressor=weights[:1],
            levels=LevelData(picks, picks, tuple(faces[:2] for _ in picks)),
        )
        self._constant("template_vertices", rng.uniform(-1.0, 1.0, (40, 3)))

    def forward(self, pose, betas):
        return BodyOutput(self.template_vertices[None], self.template_vertices[None])


class Eye(nn.Module):
    """Vertices that are a smooth function of the picture; counts the pictures of each call."""

    def __init__(self, dtype):
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(3 * 7 * 7, 120, generator=draw).to(dtype))
        self.sizes = []

    def forward(self, images):
        self.sizes.append(len(images))
        patches = torch.nn.functional.adaptive_avg_pool2d(images.to(self.weight.dtype), 7)
        # Not a matrix product, whose rounding depends on the number of pictures.
        vertices = (patches.reshape(len(images), -1, 1).tanh() * self.weight).sum(dim=1)
        return type("Prediction", (), {"vertices": [vertices.reshape(-1, 40, 3)]})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(write_rows(tmp_path_factory.mktemp("rows"), "val", 5, (3,), HAND))


def separate_pass(dataset, eye, body, view, rows):
    """One view as an evaluation under --sc and --rot sees it."""
    transform = SampleTransform(
        HAND, train=False, rotation_deg=view.rotation_deg, scale_factor=view.scale
    )
    pictures = [transform(dataset.row(row), row).image for row in rows]
    with torch.no_grad():
        vertices = eye(normalize_images(torch.from_numpy(np.stack(pictures)))).vertices[-1]
    root = body.root_from_mesh(vertices)
    return body.joints_from_mesh(vertices) - root, vertices - root


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_one_pass_is_metros_separate_passes(dataset, dtype, atol, batch_size):
    rows = (0, 1, 4)
    body, eye = LinearBody(TOY_HAND).to(dtype), Eye(dtype)
    passes = [separate_pass(dataset, eye, body, view, rows) for view in SIX]
    fusion = ViewFusion(*passes[0])
    for joints, vertices in passes:
        fusion.add(joints, vertices)
    expected = fusion.result()

    plan = fused_views(SIX)
    load = ViewLoader(HAND, plan)
    crops = np.stack([load(dataset.row(row)) for row in rows])
    eye.sizes.clear()
    meshes = ViewPredictor(eye, body, plan, batch_size=batch_size)(crops)
    np.testing.assert_allclose(meshes.joints, expected.joints.numpy(), rtol=0, atol=atol)
    np.testing.assert_allclose(meshes.vertices, expected.vertices.numpy(), rtol=0, atol=atol)
    assert sum(eye.sizes) == 18  # no view is computed twice
    assert max(eye.sizes) <= batch_size
    assert not np.allclose(meshes.vertices, passes[0][1].numpy(), atol=1e-3)


@pytest.mark.parametrize("crop_mode", ["metro", "fast"])
def test_crops_are_those_of_an_evaluation_under_that_view(dataset, crop_mode):
    crops = ViewLoader(HAND, fused_views(SIX), crop_mode=crop_mode)(dataset.row(2))
    for crop, view in zip(crops, SIX, strict=True):
        transform = SampleTransform(
            HAND,
            train=False,
            crop_mode=crop_mode,
            rotation_deg=view.rotation_deg,
            scale_factor=view.scale,
        )
        assert np.array_equal(crop, transform(dataset.row(2), 2).image)


def test_an_image_is_decoded_once(dataset, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        "metro_ray.evaluation.tta_pass.decode_image",
        lambda data: decoded.append(1) or decode_image(data),
    )
    ViewLoader(HAND, fused_views(SIX))(dataset.row(0))
    assert len(decoded) == 1


def test_a_broken_row_is_named(dataset):
    with pytest.raises(DataError, match=r"row 3 \(row3\.jpg\): the image cannot be decoded"):
        ViewLoader(HAND, single_view())(dataset.row(3))


def test_a_single_view_is_not_touched_by_fusion(dataset):
    view = View(0.8, 30.0)
    body, eye = LinearBody(TOY_HAND), Eye(torch.float32)
    load = ViewLoader(HAND, single_view(view))
    meshes = ViewPredictor(eye, body, single_view(view), batch_size=2)(
        np.stack([load(dataset.row(row)) for row in (0, 1, 2)])
    )
    joints, vertices = separate_pass(dataset, eye, body, view, (0, 1, 2))
    assert meshes.vertices.dtype == np.float32
    np.testing.assert_allclose(meshes.vertices, vertices, rtol=0, atol=1e-6)
    np.testing.assert_allclose(meshes.joints, joints, rtol=0, atol=1e-6)


def test_the_root_stays_when_it_is_asked_to(dataset):
    body, eye = LinearBody(TOY_HAND), Eye(torch.float32)
    crops = ViewLoader(HAND, single_view())(dataset.row(0))[None]
    kept = ViewPredictor(eye, body, single_view(), keep_root=True)(crops)
    moved = ViewPredictor(eye, body, single_view())(crops)
    root = body.root_from_mesh(torch.from_numpy(kept.vertices)).numpy()
    assert np.abs(root).max() > 0.1
    np.testing.assert_allclose(kept.vertices - root, moved.vertices, atol=1e-6)
    np.testing.assert_allclose(kept.joints - root, moved.joints, atol=1e-6)


def test_views_without_the_plain_one_are_fused_around_it(dataset):
    views = (View(0.7, 0.0), View(1.0, 50.0))
    plan = fused_views(views)
    assert plan.num_views == 2
    assert len(plan.shots) == 3
    body, eye = LinearBody(TOY_HAND).double(), Eye(torch.float64)
    fusion = ViewFusion(*separate_pass(dataset, eye, body, PLAIN_VIEW, (1,)))
    for view in views:
        fusion.add(*separate_pass(dataset, eye, body, view, (1,)))
    meshes = ViewPredictor(eye, body, plan)(ViewLoader(HAND, plan)(dataset.row(1))[None])
    np.testing.assert_allclose(meshes.joints, fusion.result().joints, rtol=0, atol=1e-12)


def test_mirrored_views_are_mirrored_pictures(tmp_path):
    spec = get_spec("anny_body")
    row = open_dataset(write_rows(tmp_path, "val", 1)).row(0)
    plan = fused_views((PLAIN_VIEW, View(0.9, 20.0)), flip=True)
    assert plan.num_views == 4
    crops = ViewLoader(spec, plan)(row)
    assert np.array_equal(crops[2], crops[0][:, :, ::-1])
    assert np.array_equal(crops[3], crops[1][:, :, ::-1])
    params = AugmentParams.identity(spec)._replace(flip=True)
    transform = SampleTransform(spec, train=True)
    image, label = decode_image(row.image_bytes), parse_label(row.label, spec)
    assert np.array_equal(crops[2], transform.apply(image, label, params).image)


class Weigher(nn.Module):
    """Sees how much brighter the right half of a picture is: one vertex on that side moves."""

    def forward(self, images):
        half = images.shape[3] // 2
        gap = images[..., half:].mean(dim=(1, 2, 3)) - images[..., :half].mean(dim=(1, 2, 3))
        vertices = SYMMETRIC.template_vertices.repeat(len(images), 1, 1)
        vertices[:, 0, 0] += gap  # vertex 0 is on the right, its partner 20 on the left
        vertices[:, 20, 0] += gap
        return type("Prediction", (), {"vertices": [vertices]})


def symmetric_body():
    body = LinearBody(TOY_BODY)
    side = body.template_vertices[:20].abs() + 0.1
    body.template_vertices[:] = torch.cat([side, side * torch.tensor([-1.0, 1.0, 1.0])])
    strip = torch.arange(18)[:, None] + torch.arange(3)
    body.faces = torch.cat([strip, strip + 20])
    weights = body.joint_regressor[:, :20].clone()
    body.joint_regressor[:] = (
        torch.cat([weights, weights], dim=1) / weights.sum(1, keepdim=True) / 2
    )
    body.root_regressor[:] = 1 / 40
    return body


SYMMETRIC = symmetric_body()


def test_a_network_that_treats_sides_alike_predicts_the_same_with_mirrored_views():
    rng = np.random.default_rng(2)
    picture = cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (224, 224)).transpose(2, 0, 1)
    plan = fused_views((PLAIN_VIEW,), flip=True)
    crops = np.ascontiguousarray(np.stack([picture, picture[:, :, ::-1]]))[None]
    plain = ViewPredictor(Weigher(), SYMMETRIC, single_view())(crops[:, :1])
    both = ViewPredictor(Weigher(), SYMMETRIC, plan)(crops)
    np.testing.assert_allclose(both.vertices, plain.vertices, atol=1e-5)
    swapped = ViewPredictor(Weigher(), SYMMETRIC, single_view())(crops[:, 1:])
    assert np.abs(swapped.vertices - plain.vertices).max() > 1e-3


def test_weights_are_converted_once_for_all_sub_batches(dataset):
    """Autocast's conversions are a tenth of a forward pass on the CPU."""

    class Conv(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 120, 32, stride=32)

        def forward(self, images):
            vertices = self.conv(images).mean(dim=(2, 3)).reshape(-1, 40, 3)
            return type("Prediction", (), {"vertices": [vertices.float()]})

    plan = fused_views(SIX)
    crops = ViewLoader(HAND, plan)(dataset.row(0))[None]

    def conversions(batch_size):
        body = LinearBody(TOY_HAND)
        predict = ViewPredictor(Conv(), body, plan, precision="bf16", batch_size=batch_size)
        with profile(record_shapes=True) as recorded:
            predict(crops)
        shape = [120, 3, 32, 32]
        return sum(
            event.name == "aten::_to_copy" and event.input_shapes[0] == shape
            for event in recorded.events()
        )

    assert conversions(1) == conversions(6) == 1
