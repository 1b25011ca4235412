import pytest
import torch
import torch.nn.functional as F

from metro_ray.models.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_and_mean(p, dtype):
    torch.manual_seed(0)
    count = 2_000_003
    kept = dropout(torch.ones(count, dtype=dtype), p)
    share = kept.eq(0).double().mean().item()
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / count) ** 0.5)
    scale = kept.max().item()
    assert scale == pytest.approx(1 / (1 - p), rel=2e-2 if p > 0.99 else 2e-3)
    assert torch.unique(kept).tolist() == [0, scale]


def test_elements_are_drawn_apart():
    """No element follows from its neighbours, though four of them share a draw."""
    torch.manual_seed(0)
    kept = dropout(torch.ones(250_000, 8), 0.5).ne(0).double()
    kept -= kept.mean(0)
    correlation = torch.corrcoef(kept.T) - torch.eye(8)
    assert correlation.abs().max() < 5 / 250_000**0.5


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 0), (5, 7, 3)])
def test_any_shape(shape):
    dropped = dropout(torch.ones(shape), 0.5)
    assert dropped.shape == shape
    assert set(dropped.flatten().tolist()) <= {0.0, 2.0}


def test_gradient_passes_where_the_value_does():
    x = torch.randn(4, 50, requires_grad=True)
    y = dropout(x, 0.3)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach() / x.detach())
    assert 0 < x.grad.eq(0).sum() < x.numel()


def test_same_seed_same_mask_whatever_the_threads():
    x, threads = torch.ones(100_000), torch.get_num_threads()
    masks = []
    try:
        for number in (1, 2, 1):
            torch.set_num_threads(number)
            torch.manual_seed(5)
            masks.append(dropout(x, 0.1))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], dropout(x, 0.1))


def test_nothing_is_dropped_where_nothing_should():
    x = torch.randn(100)
    assert torch.equal(dropout(x, 0.0), x)
    assert torch.equal(dropout(x, 0.5, training=False), x)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert dropout(x, 1.0).eq(0).all()


def test_what_is_no_share_is_refused():
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match="probability"):
            dropout(torch.ones(3), p)


def test_of_channels_last_maps_too():
    x = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert set(Dropout(0.5)(x).flatten().tolist()) == {0.0, 2.0}


def test_compiled_networks_use_pytorchs_own():
    torch.manual_seed(1)
    ours = torch.compile(lambda x: dropout(x, 0.5), backend="eager")(torch.ones(1000))
    torch.manual_seed(1)
    assert torch.equal(ours, F.dropout(torch.ones(1000), 0.5))
