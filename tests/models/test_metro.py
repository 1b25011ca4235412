import numpy as np
import pytest
import torch
from torch import nn

from metro_ray.bodies.spec import SPECS, get_spec
from metro_ray.errors import ConfigError
from metro_ray.models import build_metro
from metro_ray.models.heads import GridTokens
from metro_ray.models.masking import mask_tokens


def images(batch, seed=0):
    return torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mesh", sorted(SPECS))
@torch.inference_mode()
def test_shapes(mesh, make_metro):
    spec, model = get_spec(mesh), make_metro(mesh).eval()
    prediction = model(images(2))
    assert prediction.camera.shape == (2, 3)
    assert prediction.joints.shape == (2, spec.num_joints, 3)
    assert [tuple(v.shape) for v in prediction.vertices] == [(2, n, 3) for n in spec.vertex_levels]
    assert prediction.attentions is None
    asked = model(images(2), return_attention=True)
    heads, num_tokens = 4, spec.num_tokens
    assert asked.attentions[-1].shape == (2, heads, num_tokens, num_tokens)


@torch.inference_mode()
def test_samples_do_not_influence_each_other(make_metro):
    model = make_metro().eval()
    one, many = model(images(3)[1:2]), model(images(3))
    torch.testing.assert_close(many.vertices[-1][1:2], one.vertices[-1], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_masked_token_carries_neither_image_nor_template(make_metro):
    model = make_metro().eval()
    mask = torch.zeros(1, get_spec("smpl").num_tokens, 1)
    blind = model(images(1, seed=1), mask)
    model.template += 1.0
    torch.testing.assert_close(model(images(1, seed=2), mask).joints, blind.joints)
    assert not torch.equal(model(images(1, seed=2)).joints, blind.joints)


def test_mask_value_and_dtype():
    tokens = torch.ones(1, 2, 5, dtype=torch.bfloat16)
    masked = mask_tokens(tokens, torch.tensor([[[1.0], [0.0]]]))
    assert masked.dtype == torch.bfloat16
    assert masked[0, 0].eq(1).all()
    assert masked[0, 1].float().numpy() == pytest.approx(0.01, rel=4e-3)


@pytest.mark.parametrize("mesh", ["smpl", "mano"])
@pytest.mark.parametrize("kept", [1.0, 0.0])
def test_every_parameter_gets_a_gradient(mesh, kept, make_metro):
    """Also when everything is masked and no label is there, so DDP needs no search for unused ones."""
    model = make_metro(mesh)
    mask = torch.full((2, get_spec(mesh).num_tokens, 1), kept)
    prediction = model(images(2), mask)
    terms = (prediction.camera, prediction.joints, *prediction.vertices)
    sum(0.0 * term.sum() for term in terms).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_ddp_without_searching_for_unused_parameters(make_metro, tmp_path):
    model = make_metro()
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        for _ in range(3):  # DDP notices unused parameters at the next forward
            prediction = wrapped(images(2), torch.ones(2, get_spec("smpl").num_tokens, 1))
            terms = (prediction.camera, prediction.joints, *prediction.vertices)
            sum(term.square().mean() for term in terms).backward()
    finally:
        torch.distributed.destroy_process_group()


@torch.inference_mode()
def test_channels_last_gives_the_same_numbers(make_metro):
    model = make_metro().eval()
    expected = model(images(2)).vertices[-1]
    model = model.to(memory_format=torch.channels_last)
    got = model(images(2).contiguous(memory_format=torch.channels_last)).vertices[-1]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_bfloat16_keeps_coordinates_in_float32(make_metro):
    """A coordinate rounded to bfloat16 would lie on a grid of 2 to 8 mm around 1 m."""
    model = make_metro().eval()
    nn.init.constant_(model.cascade.encoders[-1].projection.bias, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model(images(2))
    for coordinates in (prediction.camera, prediction.joints, *prediction.vertices):
        assert coordinates.dtype == torch.float32
    rounded = prediction.joints.bfloat16().float()
    assert (rounded - prediction.joints).abs().max() > 1e-4
    torch.testing.assert_close(prediction.joints, model(images(2)).joints, atol=0.02, rtol=0)


@pytest.mark.parametrize("return_attention", [False, True])
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_compiles_into_one_graph(make_metro, whole, return_attention):
    model = make_metro(dropout=0.1, attention_dropout=0.1)
    if not whole:
        model.backbone = nn.Conv2d(3, 2048, 32, stride=32)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.autocast("cpu", torch.bfloat16):
        prediction = compiled(images(1), torch.ones(1, 445, 1), return_attention)
    assert prediction.camera.shape == (1, 3)


def test_template_is_a_buffer_that_is_not_saved(make_metro):
    model = make_metro()
    assert "template" in dict(model.named_buffers())
    assert "template" not in model.state_dict()


@torch.inference_mode()
def test_upsampling_can_start_from_the_topology(make_metro):
    rng = np.random.default_rng(0)
    matrices = [rng.random(shape, dtype=np.float32) for shape in ((1723, 431), (6890, 1723))]
    model = make_metro(upsampling_init="topology", upsampling_matrices=matrices).eval()
    coarse, middle, full = model(images(1)).vertices
    torch.testing.assert_close(middle, torch.from_numpy(matrices[0]) @ coarse)
    torch.testing.assert_close(full, torch.from_numpy(matrices[1]) @ middle)


def test_tokens_can_start_where_the_template_has_them():
    template = torch.tensor([[0.0, -0.8, 0.3], [0.01, -0.79, 0.3], [0.5, 0.0, 0], [0, 0.9, 0]])
    tokens = GridTokens(4)
    length = tokens.mix.weight.detach().norm(dim=1).mean()
    tokens.start_from_template(template)
    weights = tokens.mix.weight.detach().reshape(4, 7, 7)
    top, neighbour, right, bottom = ([int(i) for i in divmod(int(w.argmax()), 7)] for w in weights)
    assert top == neighbour
    assert top[0] < right[0] < bottom[0], "rows run down the picture"
    assert right[1] > top[1], "columns run to the right"
    torch.testing.assert_close(weights.sum(dim=(1, 2)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(weights.flatten(1).norm(dim=1), length.expand(4), atol=0.1, rtol=0)
    assert (weights[0] - weights[1]).norm() < 0.1 * weights[0].norm()


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        (None, "not known for it"),
        ([None, None], "not known for it"),
        ([np.zeros((431, 1723)), np.zeros((1723, 6890))], r"expected \[\(1723, 431\)"),
    ],
)
def test_topology_without_its_matrices(make_metro, matrices, message):
    with pytest.raises(ConfigError, match=message):
        make_metro(upsampling_init="topology", upsampling_matrices=matrices)


def test_numbers_that_do_not_fit(make_metro):
    with pytest.raises(ConfigError, match="must start with 2051"):
        make_metro(input_feat_dim=(2048, 32, 16))
    spec = get_spec("smpl")
    with pytest.raises(ConfigError, match=r"must have shape \(445, 3\), got \(431, 3\)"):
        build_metro(
            spec,
            torch.zeros(431, 3),
            arch="hrnet-w18-small",
            input_feat_dim=(2051,),
            hidden_feat_dim=(8,),
            num_hidden_layers=1,
            num_attention_heads=1,
            dropout=0.0,
        )


def test_heads_keep_torchs_own_start(make_metro):
    """METRO initialises only what is inside its encoders (quirk 9)."""
    model = make_metro()
    weight = model.upsampler.steps[0].weight
    assert weight.abs().max() <= 431**-0.5
    assert weight.std().item() == pytest.approx((431**-0.5) / 3**0.5, rel=0.02)


def test_the_template_start_predicts_the_template():
    torch.manual_seed(0)
    spec = get_spec("anny_hand")
    template = torch.randn(spec.num_tokens, 3)
    model = build_metro(
        spec,
        template,
        arch="hrnet-w18-small",
        input_feat_dim=(2051, 16, 8),
        hidden_feat_dim=(16, 8, 8),
        num_hidden_layers=1,
        num_attention_heads=2,
        dropout=0.0,
        output_init="template",
    ).eval()
    with torch.no_grad():
        predicted = model(torch.randn(1, 3, 224, 224))
    torch.testing.assert_close(predicted.joints[0], template[: spec.num_joints])
    torch.testing.assert_close(predicted.vertices[0][0], template[spec.num_joints :])
