"""Search spaces: what is read, drawn and refused."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metro_ray.config.space import parse_space, values_from_json
from metro_ray.config.space_files import list_spaces, read_spaces

SPACE = {
    "optim.lr": {"loguniform": ["1e-5", 1e-3]},
    "model.drop_out": {"uniform": [0.0, 0.3]},
    "model.mask_fraction": {"quniform": [0.0, 0.5, 0.1]},
    "model.num_hidden_layers": {"randint": [1, 6]},
    "model": {"hidden_feat_dim": {"choice": [[64, 64, 64], "128,64,64"]}},
    "optim.schedule": {"grid": ["metro", "cosine"]},
    "optim.warmup_steps": 20,
}


def parsed(tree=SPACE):
    space, problems = parse_space(tree, "here")
    assert problems == []
    return space


def test_a_space_has_the_types_of_its_settings():
    space = parsed()
    kinds = {d.key: d for d in space.dimensions}
    assert kinds["model.hidden_feat_dim"].values == ((64, 64, 64), (128, 64, 64))
    assert kinds["optim.lr"].ends == (1e-5, 1e-3)
    assert kinds["model.num_hidden_layers"].ends == (1, 6)
    assert space.fixed == {"optim.warmup_steps": 20}
    assert parsed(space.to_dict()).to_dict() == space.to_dict()


@given(st.integers(0, 10**6))
def test_what_is_drawn_lies_in_the_space_and_survives_json(seed):
    import json

    space = parsed()
    values = space.draw(random.Random(seed))
    for dimension in space.dimensions:
        assert dimension.contains(values[dimension.key]), dimension
    assert values_from_json(json.loads(json.dumps(values))) == values
    assert space.draw(random.Random(seed)) == values


def test_both_ends_of_randint_and_every_step_of_quniform_are_drawn():
    space = parsed()
    drawn = [space.draw(random.Random(seed)) for seed in range(300)]
    assert {values["model.num_hidden_layers"] for values in drawn} == {1, 2, 3, 4, 5, 6}
    steps = sorted({round(values["model.mask_fraction"], 6) for values in drawn})
    assert steps == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_grid_has_every_combination_once():
    space = parsed(
        {"optim.lr": {"grid": [1e-4, 1e-3]}, "model.num_hidden_layers": {"choice": [1, 2, 4]}}
    )
    points = list(space.grid())
    assert space.num_grid_points == len(points) == 6
    assert len({tuple(point.items()) for point in points}) == 6
    assert parsed().num_grid_points is None


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"optim.ler": {"uniform": [0, 1]}}, "unknown setting optim.ler"),
        ({"optim.lr": {"normal": [0, 1]}}, "one of uniform, loguniform"),
        ({"optim.lr": {"uniform": [1, 0]}}, "lowest, highest"),
        ({"optim.lr": {"loguniform": [0, 1]}}, "both above 0"),
        ({"optim.lr": {"uniform": 3}}, "needs a list"),
        ({"optim.lr": {"uniform": [0, "much"]}}, "lowest, highest"),
        ({"optim.lr": {"choice": []}}, "one or more different values"),
        ({"optim.lr": {"choice": [1e-3, "1e-3"]}}, "one or more different values"),
        ({"model.num_hidden_layers": {"uniform": [1, 3]}}, "whole number"),
        ({"model.num_hidden_layers": {"randint": [1.5, 3]}}, "whole numbers"),
        ({"model.num_hidden_layers": {"choice": ["many"]}}, "must be a whole number"),
        ({"optim.schedule": {"uniform": [0, 1]}}, "use choice"),
        ({"model.mask_fraction": {"quniform": [0, 1, 0]}}, "the step above 0"),
        ({"run.output_dir": {"choice": ["a"]}}, "its own folder"),
        ({"optim.epochs": {"choice": [2, 4]}}, "budget of every trial"),
        ({"data.val_yaml": {"choice": ["a", "b"]}}, "same images"),
        ({"optim.lr": {"grid": [1e-3]}, "optim": {"lr": {"grid": [1e-4]}}}, "there twice"),
        ({"optim.lr": 1e-3}, "nothing is varied"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(tree, words):
    _, problems = parse_space(tree, "my.yaml")
    assert len(problems) == 1
    assert "my.yaml" in problems[0]
    assert words in problems[0]


def test_all_problems_of_a_space_are_listed():
    tree = {"optim.ler": {"uniform": [0, 1]}, "optim.lr": {"loguniform": [-1, 1]}, "run.seed": 1}
    _, problems = parse_space(tree, "here")
    assert len(problems) == 3


@pytest.mark.parametrize("name", list_spaces())
def test_shipped_spaces_fit_the_published_networks(name):
    from metro_ray.config.load import load_config
    from metro_ray.config.sweep_check import check_space

    space, problems = read_spaces([name], "body")
    assert problems == []
    assert check_space(load_config("body", "body"), space) == []
    assert list_spaces()[name]


def test_spaces_are_joined_and_a_key_belongs_to_one(tmp_path):
    space, problems = read_spaces(["lr", "layers"], "body")
    assert problems == []
    assert [d.key for d in space.dimensions] == ["optim.lr", "model.num_hidden_layers"]
    assert "is in another one too" in read_spaces(["lr", "lr_layers"], "body")[1][0]
    assert "use a path" in read_spaces(["lerning"], "body")[1][0]
    file = tmp_path / "hands.yaml"
    file.write_text("kind: hand\noptim.lr: {choice: [1.0e-4]}\n")
    assert "kind 'hand'" in read_spaces([str(file)], "body")[1][0]
