"""Typed loading: YAML's traps, unknown paths, impossible values, round trips, presets."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.config.keys import all_keys, nest
from metro_ray.config.load import (
    diff,
    diff_from_default,
    dump_yaml,
    from_dict,
    load_config,
    to_dict,
)
from metro_ray.config.presets import list_presets
from metro_ray.config.schema import EvalConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig
from metro_ray.config.views import ViewsConfig
from metro_ray.errors import ConfigError

PRESETS = {preset.name: preset for preset in list_presets()}


def preset_file(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_schema_defaults_are_the_body_task():
    assert load_config("body") == TrainConfig(kind="body")


def test_text_becomes_numbers(tmp_path):
    config = load_config(
        "body",
        preset_file(
            tmp_path, "optim:\n  lr: 1e-4\n  epochs: '7'\nmodel: {hidden_feat_dim: '64,32,16'}"
        ),
    )
    assert (config.optim.lr, config.optim.epochs) == (1e-4, 7)
    assert config.model.hidden_feat_dim == (64, 32, 16)
    assert isinstance(config.optim.lr, float)


def test_dotted_keys_in_yaml_and_none(tmp_path):
    config = load_config(
        "body", preset_file(tmp_path, "optim.lr: 2e-4\nmodel: {mask_fraction: null}\n")
    )
    assert diff_from_default(config) == {"optim.lr": 2e-4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "optim: {lrr: 1}",
            r"preset .*mine.yaml: unknown setting optim.lrr. Did you mean optim.lr",
        ),
        ("optimizer: {lr: 1}", "unknown setting optimizer. .*Sections: assets"),
        ("epochs: 3", "unknown setting epochs. Did you mean optim.epochs"),
        ("optim: 3", "optim must be a section of settings, got 3"),
        ("optim: {lr: {min: 1}}", "optim.lr must be a value, got the section"),
        ("optim: {lr: 1}\noptim.lr: 2", "optim.lr is set twice"),
        ("optim: {lr: 1, lr: 2}", "lr is there twice, again in line 1"),
        ("- 1", "must be a mapping of settings, got list"),
        ("optim: {lr: [", "cannot read .*mine.yaml"),
        ("optim: {lr: true}", "optim.lr must be a number, got True"),
        ("optim: {epochs: 2.5}", "optim.epochs must be a whole number, got 2.5"),
        ("optim: {lr: null}", "optim.lr must be a number, got None"),
        ("run: {output_dir: 5}", "run.output_dir must be text, got 5"),
        (
            "model: {hidden_feat_dim: [a, 2, 3]}",
            "model.hidden_feat_dim must be a list of whole numbers, got 'a'",
        ),
        (
            "model: {hidden_feat_dim: 64}",
            "model.hidden_feat_dim must be a list of whole numbers, got 64",
        ),
        ("loss: {levels: [-1]}", "loss.levels must be one number >= 0"),
        ("optim: {lr: .inf}", "optim.lr must be finite, got inf"),
        ("kind: foot", "preset .* is for kind 'foot'"),
    ],
)
def test_bad_yaml_is_refused_by_path(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config("body", preset_file(tmp_path, text))


def test_empty_preset_is_the_default(tmp_path):
    assert load_config("hand", preset_file(tmp_path, "# nothing\n")) == load_config("hand")


def test_a_run_knows_the_preset_that_it_began_with(tmp_path):
    config = load_config("body", "demo", {"optim.lr": 2e-4})
    assert config.run.preset == "demo"
    again = load_config("body", preset_file(tmp_path, dump_yaml(config)))
    assert again.run.preset == "demo"  # not the file that a run leaves
    assert again == config
    assert diff(config, load_config("body", "demo")) == {"optim.lr": 2e-4}
    assert load_config("body").run.preset is None


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads_for_its_task_only(name):
    preset = PRESETS[name]
    assert preset.kind in ("body", "hand")
    assert len(preset.description) > 20
    config = load_config(preset.kind, name)
    assert config.kind == preset.kind
    other = "hand" if preset.kind == "body" else "body"
    with pytest.raises(ConfigError, match=f"preset {name} is for kind"):
        load_config(other, name)


def test_the_demo_needs_no_download():
    for name in ("demo", "demo_hand"):
        config = load_config(PRESETS[name].kind, name)
        assert config.model.mesh in ("anny_body", "anny_hand")
        assert config.model.backbone_weights is None
        assert config.data.synth_train > 0
        assert config.data.synth_val > 0


def test_wrong_kind():
    with pytest.raises(ConfigError, match="kind must be one of body, hand, got 'foot'"):
        load_config("foot")
    with pytest.raises(ConfigError, match="kind must be one of"):
        from_dict({"optim": {"lr": 1}})


def test_nest_keeps_its_base_unchanged():
    base = {"optim": {"lr": 1, "epochs": 2}}
    assert nest({"optim.lr": 3, "run.device": "cpu"}, base) == {
        "optim": {"lr": 3, "epochs": 2},
        "run": {"device": "cpu"},
    }
    assert base == {"optim": {"lr": 1, "epochs": 2}}
    with pytest.raises(ConfigError, match=r"unknown setting a\.b"):
        nest({"a.b": 1})


@pytest.mark.parametrize("make", [
    lambda: OptimConfig(lr=0),
    lambda: OptimConfig(lr=float("nan")),
    lambda: OptimConfig(epochs=0),
    lambda: LossConfig(levels=()),
    lambda: LossConfig(joints=float("inf")),
    lambda: ModelConfig(input_feat_dim=(2048, 512, 128)),
    lambda: ModelConfig(input_feat_dim=(2051, 0, 128)),
    lambda: ModelConfig(drop_out=1.0),
    lambda: ModelConfig(mask_fraction=-0.1),
    lambda: EvalConfig(rotation_deg=float("inf")),
    lambda: TrainConfig(kind="hand", model=ModelConfig(mesh="smpl")),
    lambda: TrainConfig(kind="body", eval=EvalConfig(aml=True)),
    lambda: ViewsConfig(scales=()),
    lambda: ViewsConfig(scales=(1.0, 0.0)),
    lambda: ViewsConfig(rotations_deg=(10.0, 10.0)),
])  # fmt: skip
def test_values_are_checked_where_they_are_made(make):
    with pytest.raises(ConfigError, match="must be"):
        make()


def values_of(key):
    numbers = {
        int: st.integers(1, 10**6),
        float: st.floats(1e-12, 0.999),
        bool: st.booleans(),
        str: st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1).filter(
            lambda text: text.lower() not in ("none", "null")
        ),
    }
    plain = numbers.get(key.type, st.just(key.default))
    return st.none() | plain if key.is_optional else plain


@st.composite
def overrides(draw):
    names = st.sets(st.sampled_from(sorted(all_keys())), max_size=8)
    bound_to_others = (
        "run.overwrite",
        "scaling.min_train_workers",
        "scaling.wait_for_machines_s",
    )
    fixed = ("data.image_size", "model.num_attention_heads", *bound_to_others)
    return {name: draw(values_of(all_keys()[name])) for name in draw(names) if name not in fixed}


@given(kind=st.sampled_from(["body", "hand"]), changed=overrides())
@settings(max_examples=100, deadline=None)
def test_dump_and_load_are_inverse(kind, changed, tmp_path_factory):
    if changed.get("model.mesh", "auto") != "auto":
        changed.pop("model.mesh")
    if kind == "body":
        changed |= {"eval.aml": False}
    config = load_config(kind, None, changed)
    path = tmp_path_factory.mktemp("round") / "config.yaml"
    path.write_text(dump_yaml(config), encoding="utf-8")
    assert load_config(kind, path) == config
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert load_config(kind, None, diff_from_default(config)) == config


def test_text_overrides_equal_typed_ones():
    typed = {
        "optim.lr": 3e-4,
        "model.input_feat_dim": [2051, 64],
        "model.hidden_feat_dim": (32, 16),
        "eval.only": True,
    }
    text = {
        "optim.lr": "3e-4",
        "model.input_feat_dim": "2051,64",
        "model.hidden_feat_dim": "[32, 16]",
        "eval.only": "true",
    }
    assert load_config("body", None, typed) == load_config("body", None, text)


def test_a_partial_configuration_gets_the_defaults_of_its_task():
    config = from_dict({"kind": "hand", "model": {"arch": "hrnet"}})
    assert config.loss.levels == (0.5, 0.5)
    assert config.model.arch == "hrnet"
