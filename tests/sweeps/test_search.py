"""Where values come from, and that a search that goes on does as one that never stopped."""

from dataclasses import replace

import pytest

from metro_ray.config.space import parse_space
from metro_ray.sweeps.ledger import Epoch, Trial
from metro_ray.sweeps.search import first_values, make_search


def space_of(tree):
    space, problems = parse_space(tree, "here")
    assert problems == []
    return space


def ended(number, values, error, state="done"):
    history = [Epoch(1, error + 5, 1.0, None), Epoch(2, error, 2.0, None)]
    return Trial(number=number, values=values, state=state, epochs=2), history


def error_of(values):
    """Least at 1e-4 and four layers."""
    import math

    return 100 + 20 * abs(math.log10(values["optim.lr"] / 1e-4)) - values["model.num_hidden_layers"]


def state_of(values):
    return "stopped" if error_of(values) > 112 else "done"


def run(search, first, last, tell=True):
    asked = []
    for number in range(first, last):
        values = search.ask(number)
        asked.append(values)
        if tell:
            search.tell(*ended(number, values, error_of(values), state_of(values)))
    return asked


def test_grid_goes_through_every_point(record):
    space = space_of({"optim.lr": {"grid": [1e-4, 1e-3]}, "optim.schedule": {"grid": ["metro"]}})
    search = make_search(record.base, record.sweep, space)
    assert [search.ask(number)["optim.lr"] for number in (0, 1)] == [1e-4, 1e-3]


def test_chance_depends_on_seed_and_number_alone(record):
    sweep = replace(record.sweep, search="random")
    search = make_search(record.base, sweep, record.space)
    first = [search.ask(number) for number in range(6)]
    assert [search.ask(number) for number in (5, 3, 0)] == [first[5], first[3], first[0]]
    assert len({values["optim.lr"] for values in first}) == 6
    other = make_search(record.base, replace(sweep, seed=1), record.space)
    assert other.ask(3) != first[3]


def test_chance_goes_through_the_grid_of_a_mixed_space(record):
    space = space_of(
        {"optim.lr": {"loguniform": [1e-5, 1e-3]}, "optim.warmup_steps": {"grid": [0, 9]}}
    )
    sweep = replace(record.sweep, search="random", first=False)
    search = make_search(record.base, sweep, space)
    assert [search.ask(number)["optim.warmup_steps"] for number in range(4)] == [0, 9, 0, 9]


@pytest.mark.parametrize("kind", ["random", "optuna"])
def test_the_first_trial_has_the_settings_as_given(record, kind):
    sweep = replace(record.sweep, search=kind)
    given = {"optim.lr": 1.3e-3, "model.num_hidden_layers": 1}
    assert first_values(record.base, record.space) == given
    assert make_search(record.base, sweep, record.space).ask(0) == given
    space = space_of({"optim.lr": {"loguniform": [1e-6, 1e-5]}})
    assert first_values(record.base, space) is None
    assert make_search(record.base, sweep, space).ask(0)["optim.lr"] <= 1e-5


def test_tpe_finds_what_chance_does_not(record):
    def late_mean(kind):
        sweep = replace(record.sweep, trials=40, search=kind)
        asked = run(make_search(record.base, sweep, record.space), 0, 40)
        return sum(map(error_of, asked[20:])) / 20

    assert late_mean("optuna") < late_mean("random") - 4


def test_tpe_goes_on_as_if_it_had_not_stopped(record):
    """Every suggestion depends on (seed, number, what was told), so a new process repeats them."""
    sweep = replace(record.sweep, trials=20)
    whole = run(make_search(record.base, sweep, record.space), 0, 16)
    search = make_search(record.base, sweep, record.space)
    for number, values in enumerate(whole[:11]):
        search.recall(*ended(number, values, error_of(values), state_of(values)))
    assert run(search, 11, 16) == whole[11:]


def test_trials_that_run_at_the_same_time_look_at_different_places(record):
    search = make_search(record.base, replace(record.sweep, trials=6), record.space)
    asked = run(search, 0, 6, tell=False)
    assert len({values["optim.lr"] for values in asked}) == 6


def test_a_running_trial_is_recalled_and_told_later(record):
    search = make_search(record.base, record.sweep, record.space)
    values = {"optim.lr": 3e-4, "model.num_hidden_layers": 4}
    search.recall(Trial(number=0, values=values, state="running"), [])
    search.tell(*ended(0, values, 100.0))
    failed = Trial(number=1, values=search.ask(1), state="failed")
    search.tell(failed, [])
    assert search.ask(2)["optim.lr"] > 0


def test_every_distribution_reaches_optuna_and_comes_back(record):
    space = space_of(
        {
            "model.drop_out": {"uniform": [0.0, 0.3]},
            "model.mask_fraction": {"quniform": [0.05, 0.5, 0.1]},
            "optim.warmup_steps": {"randint": [3, 9]},
            "optim.per_gpu_batch_size": {"quniform": [2, 15, 4]},
            "model.hidden_feat_dim": {"choice": [[64, 64, 64], [128, 64, 64]]},
            "optim.schedule": {"choice": ["metro", "cosine"]},
        }
    )
    search = make_search(record.base, record.sweep, space)
    for number in range(15):
        values = search.ask(number)
        for dimension in space.dimensions:
            assert dimension.contains(values[dimension.key]), (dimension, values)
            assert type(values[dimension.key]) is type(dimension.ends[0])
        search.tell(*ended(number, values, 100.0 + number))
