import pytest

from metro_ray.bodies.spec import get_spec
from metro_ray.config.load import load_config
from metro_ray.errors import ConfigError
from metro_ray.evaluation.figures import TITLES
from metro_ray.evaluation.protocols import PROTOCOLS, guess_protocol, protocol_of
from metro_ray.evaluation.published import PUBLISHED, published_rows


@pytest.mark.parametrize(
    ("val_yaml", "kind", "expected"),
    [
        ("human3.6m/valid.protocol2.yaml", "body", "h36m_p2"),
        ("/data/Human3.6M/valid.protocol2.yaml", "body", "h36m_p2"),
        ("human3.6m/valid.protocol1.yaml", "body", "open"),
        ("3dpw/test.yaml", "body", "3dpw"),
        ("3dpw/test_has_gender.yaml", "body", "3dpw"),
        ("3dpw/train.yaml", "body", "open"),
        ("freihand/test.yaml", "hand", "freihand"),
        ("freihand/test.yaml", "body", "open"),
        ("freihand/train.yaml", "hand", "open"),
        ("runs/demo-data/val.yaml", "body", "open"),
        ("/home/3dpw/mine/test.yaml", "body", "open"),
    ],
)
def test_the_data_set_tells_the_protocol(val_yaml, kind, expected):
    assert guess_protocol(val_yaml, kind) == expected


def _used(kind, mesh, **settings):
    overrides = {key.replace("__", "."): value for key, value in settings.items()}
    return protocol_of(load_config(kind, overrides=overrides), get_spec(mesh))


def test_metros_own_evaluation_is_comparable():
    used = _used("body", "smpl", data__val_yaml="3dpw/test.yaml")
    assert used.departures == ()
    for part in ("3DPW, test split", "200 px x scale", "14 LSP joints", "Procrustes", "smpl"):
        assert part in used.line


def test_departures_are_named():
    assert "not SMPL" in _used("body", "anny_body", data__val_yaml="3dpw/test.yaml").departures[0]
    used = _used("body", "smpl", data__val_yaml="3dpw/test.yaml", eval__scale_factor=1.2)
    assert used.departures == ("crops are scaled by 1.2 and rotated by 0 degrees",)
    assert len(_used("hand", "anny_hand", data__val_yaml="mine.yaml").departures) == 2


def test_a_protocol_can_be_given():
    used = _used("body", "smpl", data__val_yaml="mine.yaml", eval__protocol="h36m_p2")
    assert used.protocol.title == "Human3.6M, Protocol 2"
    with pytest.raises(ConfigError, match=r"eval\.protocol must be a protocol of a hand"):
        load_config("hand", overrides={"eval.protocol": "3dpw"})


def test_published_rows_have_a_protocol_figures_and_a_source():
    assert {row.protocol for row in PUBLISHED} == set(PROTOCOLS)
    for row in PUBLISHED:
        assert row.source
        assert row.figures.keys() <= {*TITLES, "f_5mm", "f_15mm"}
    assert published_rows("open") == ()
