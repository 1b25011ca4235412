"""The command line of a sweep and the settings of its trials."""

import pytest

from metro_ray.config.load import diff_from_default, load_config
from metro_ray.config.presets import read_preset
from metro_ray.config.sweep import best_config, chosen_search, num_trials, trial_config
from metro_ray.config.sweep_check import check_space
from metro_ray.config.sweep_cli import parse_tune, tune_help
from metro_ray.errors import ConfigError

ARGUMENTS = ["--preset", "demo", "--tune.space", "lr"]


def write_space(folder, text):
    path = folder / "space.yaml"
    path.write_text(text)
    return str(path)


def test_flags_dotted_keys_and_the_sweep_stand_on_one_line():
    request = parse_tune(
        "body",
        [*ARGUMENTS, "--num_train_epochs", "3", "--tune.trials=5", "--dry-run", "--lr", "2e-4"],
    )
    assert (request.base.optim.epochs, request.base.optim.lr) == (3, 2e-4)
    assert (request.sweep.trials, request.dry_run) == (5, True)
    assert chosen_search(request.sweep, request.space) == "optuna"
    assert not parse_tune("body", ARGUMENTS).dry_run


def test_lists_alone_are_a_grid_whose_size_counts():
    request = parse_tune(
        "body", ["--preset", "demo", "--tune.space", "layers", "--tune.trials", "2"]
    )
    assert chosen_search(request.sweep, request.space) == "grid"
    assert num_trials(request.sweep, request.space) == 5


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--tune.trails", "3"], "Settings of tune: space, trials"),
        (["--tune.trials", "0"], "tune.trials must be >= 1"),
        (["--tune.trials", "many"], "tune.trials must be a whole number"),
        (["--tune.trials"], "--tune.trials needs a value"),
        (["--tune.trials", "3", "--tune.trials", "4"], "set twice"),
        (["--tune.search", "clever"], "one of auto, random, grid, optuna"),
        (["--tune.search", "grid"], "needs lists"),
        (["--tune.grace_epochs", "9"], "at most optim.epochs = 2"),
        (["--run.upload_to", "s3://bucket"], "run.upload_to is for single runs"),
        (["--run_eval_only"], "makes no trials"),
        (["--data.val_yaml", "none"], "give --val_yaml"),
    ],
)
def test_what_cannot_be_searched_is_refused(more, words):
    with pytest.raises(ConfigError, match=words):
        parse_tune("body", [*ARGUMENTS, *more])


def test_every_problem_is_named_at_once(tmp_path):
    space = write_space(
        tmp_path,
        "optim.ler: {uniform: [0, 1]}\nmodel.drop_out: {uniform: [0.0, 1.5]}\n"
        "model.num_attention_heads: {choice: [2, 3]}\n",
    )
    with pytest.raises(ConfigError) as caught:
        parse_tune("body", ["--preset", "demo", "--tune.space", space, "--data.val_yaml", "none"])
    text = str(caught.value)
    for words in ("optim.ler", "model.drop_out", "model.num_attention_heads = 3", "--val_yaml"):
        assert words in text
    assert len(text.splitlines()) == 4


def test_every_combination_of_widths_and_heads_is_tried(tmp_path):
    """Alone each value fits the base; only 96 with 5 heads does not."""
    from metro_ray.config.space import parse_space

    tree = {
        "model.hidden_feat_dim": {"choice": [[60, 60, 60], [64, 64, 64]]},
        "model.num_attention_heads": {"choice": [1, 2, 5]},
        "optim.lr": {"loguniform": [1e-5, 1e-3]},
    }
    [problem] = check_space(load_config("body", "demo"), parse_space(tree, "here")[0])
    assert "(64, 64, 64)" in problem
    assert "in 2 of 12 combinations" in problem


def test_more_combinations_than_can_be_tried_are_checked_in_pairs():
    from metro_ray.config.space import parse_space

    tree = {
        "model.num_attention_heads": {"choice": [1, 2, 3, 4]},
        "model.hidden_feat_dim": {"choice": [[w, w, w] for w in range(60, 120, 12)]},
        "model.num_hidden_layers": {"choice": list(range(1, 20))},
        "optim.per_gpu_batch_size": {"choice": list(range(1, 20))},
    }
    assert check_space(load_config("body", "demo"), parse_space(tree, "here")[0]) == []
    tree["model.hidden_feat_dim"]["choice"].append([64, 64, 64])
    [problem] = check_space(load_config("body", "demo"), parse_space(tree, "here")[0])
    assert "model.num_attention_heads = 3, got (64, 64, 64)" in problem


def test_population_based_training_changes_no_architecture():
    with pytest.raises(ConfigError, match=r"model\.num_hidden_layers cannot be changed then"):
        parse_tune("body", ["--preset", "demo", "--tune.scheduler", "pbt"])
    parse_tune("body", [*ARGUMENTS, "--tune.scheduler", "pbt"])


def test_a_trial_differs_from_the_base_by_its_values_and_its_place(tmp_path):
    request = parse_tune("body", ARGUMENTS)
    trial = trial_config(request.base, request.space, {"optim.lr": 5e-4}, tmp_path / "trials/003")
    changed = diff_from_default(trial).items() - diff_from_default(request.base).items()
    assert {key for key, _ in changed} == {
        "optim.lr",
        "run.output_dir",
        "run.resume",
        "run.background_checkpoints",
        "eval.gallery_images",
        "eval.pictures_every",
    }


def test_trials_of_an_elastic_run_have_the_ranks_that_were_planned(tmp_path):
    elastic = ["--scaling.train_workers", "2", "--scaling.min_train_workers", "1"]
    request = parse_tune("body", [*ARGUMENTS, *elastic])
    trial = trial_config(request.base, request.space, {}, tmp_path)
    assert (trial.scaling.train_workers, trial.scaling.min_train_workers) == (2, None)


def test_the_best_settings_are_those_of_the_base_with_the_trial_s_values(tmp_path):
    request = parse_tune("body", ARGUMENTS)
    best = best_config(request.base, request.space, {"optim.lr": 5e-4}, tmp_path)
    assert best.optim.lr == 5e-4
    assert best.eval == request.base.eval
    assert not best.run.resume
    assert best.run.background_checkpoints


def test_help_has_every_setting_of_a_sweep(capsys):
    with pytest.raises(SystemExit) as ended:
        parse_tune("body", ["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert tune_help() in text
    assert "--tune.reduction_factor" in text
    assert "--optim.lr" in text


def test_spaces_are_no_presets():
    with pytest.raises(ConfigError, match="unknown preset"):
        read_preset("lr_layers", "body")
