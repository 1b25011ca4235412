import pytest
import torch
from torch import nn

from metro_ray.errors import ConfigError
from metro_ray.models.cascade import Cascade
from metro_ray.models.encoder import Encoder


def make_encoder(**changes):
    torch.manual_seed(0)
    arguments = {
        "intermediate_dim": 64,
        "num_layers": 2,
        "num_heads": 4,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }
    return Encoder(9, 20, 16, 5, **{**arguments, **changes})


def test_start_is_berts():
    encoder = make_encoder(intermediate_dim=1024)
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            assert module.bias.eq(0).all()
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-12
            assert module.weight.eq(1).all()
    assert encoder.layers[0].widen.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert encoder.positions.std().item() == pytest.approx(0.02, rel=0.2)
    assert encoder.positions.shape == (9, 16)


def test_attention_on_request_changes_nothing_else():
    encoder, tokens = make_encoder().eval(), torch.randn(3, 9, 20)
    plain, asked = encoder(tokens), encoder(tokens, return_attention=True)
    assert plain.attentions is None
    assert plain.hidden_states is None
    torch.testing.assert_close(asked.tokens, plain.tokens)
    assert [a.shape for a in asked.attentions] == [(3, 4, 9, 9)] * 2
    torch.testing.assert_close(asked.attentions[0].sum(-1), torch.ones(3, 4, 9))
    assert [h.shape for h in asked.hidden_states] == [(3, 9, 16)] * 3
    embedded = encoder.embedding(tokens) + encoder.positions
    torch.testing.assert_close(asked.hidden_states[0], embedded)


def test_layer_is_torchs_post_norm_layer_with_erf_gelu():
    encoder = make_encoder().double()
    layer = encoder.layers[0]
    nn.init.normal_(layer.attention.query.bias)
    theirs = nn.TransformerEncoderLayer(
        16, 4, 64, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
    ).double()
    attention = layer.attention
    with torch.no_grad():
        parts = (attention.query, attention.key, attention.value)
        theirs.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        for ours, other in (
            (attention.output, theirs.self_attn.out_proj),
            (layer.widen, theirs.linear1),
            (layer.narrow, theirs.linear2),
        ):
            other.load_state_dict(ours.state_dict())
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0], theirs(x))


@pytest.mark.parametrize("return_attention", [False, True])
def test_dropout_acts_in_training_only(return_attention):
    encoder, tokens = make_encoder(attention_dropout=0.5), torch.randn(1, 9, 20)
    assert not torch.equal(
        encoder(tokens, return_attention).tokens, encoder(tokens, return_attention).tokens
    )
    encoder.eval()
    assert torch.equal(
        encoder(tokens, return_attention).tokens, encoder(tokens, return_attention).tokens
    )


def make_cascade(**changes):
    arguments = {
        "input_dims": (20, 12),
        "hidden_dims": (16, 8),
        "intermediate_size": "4x",
        "num_layers": 1,
        "num_heads": 4,
        "dropout": 0.1,
        "attention_dropout": 0.1,
    }
    return Cascade(9, **{**arguments, **changes})


def test_feed_forward_width_of_body_and_hand():
    body, hand = make_cascade(intermediate_size="metro_body"), make_cascade()
    assert [e.layers[0].widen.out_features for e in body.encoders] == [3072, 3072]
    assert [e.layers[0].widen.out_features for e in hand.encoders] == [64, 32]


def test_only_the_last_encoder_reports_attention():
    output = make_cascade()(torch.randn(1, 9, 20), return_attention=True)
    assert output.tokens.shape == (1, 9, 3)
    assert output.hidden_states[0].shape == (1, 9, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "num_attention_heads must divide every hidden_feat_dim"),
        ({"num_heads": -1}, "num_attention_heads"),
        ({"num_layers": 0}, "num_hidden_layers must be at least 1"),
        ({"hidden_dims": (16,)}, "same length"),
        ({"hidden_dims": (), "input_dims": ()}, "same length"),
    ],
)
def test_impossible_numbers(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_cascade(**changes)


def test_attention_that_can_drop_is_the_same_attention():
    """A share that rounds to nothing takes the way that training takes on CPUs."""
    encoder, tokens = make_encoder(attention_dropout=1e-9), torch.randn(2, 9, 20)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter)
    training = encoder(tokens)
    assert training.attentions is None
    torch.testing.assert_close(training.tokens, encoder.eval()(tokens).tokens)
