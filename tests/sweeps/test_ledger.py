"""What a sweep remembers, and what lets it go on."""

import json
from dataclasses import replace

import pytest

from metro_ray.config.sweep import sweep_to_dict
from metro_ray.errors import ConfigError
from metro_ray.sweeps.begin import begin_or_resume
from metro_ray.sweeps.ledger import Ledger, read_history


def test_a_ledger_read_again_is_the_same(ledger, record):
    again = Ledger.open(ledger.folder)
    assert again.trials == ledger.trials
    assert again.trials[0].values == {"optim.lr": 1e-4, "model.num_hidden_layers": 2}
    settings = again.settings()
    assert settings.base == record.base
    assert settings.space == record.space
    assert sweep_to_dict(settings.sweep) == sweep_to_dict(record.sweep)


def test_history_score_and_best_come_from_the_run_s_own_numbers(ledger):
    assert [epoch.pa_mpjpe_mm for epoch in ledger.history(2)] == [140.0, 120.0, 110.0, 112.0]
    assert ledger.history(2)[1].images_per_second == 2.5
    assert ledger.score(2).epoch == 3
    trial, epoch = ledger.best()
    assert (trial.number, epoch.pa_mpjpe_mm) == (2, 110.0)
    assert ledger.score(4) is None


def test_what_a_trial_wrote_after_it_was_stopped_does_not_count(ledger):
    ledger.change(3, epochs=1)
    assert [epoch.epoch for epoch in ledger.history(3)] == [1]
    assert len(read_history(ledger.trial_folder(3))) == 2


def test_population_based_training_keeps_what_was_and_what_is(ledger):
    changes = [
        {"epoch": 1, "from": 2, "values": {"optim.lr": 4e-4}},
        {"epoch": 3, "from": 2, "values": {"optim.lr": 5e-4}},
    ]
    trial = ledger.change(6, changes=changes)
    assert [trial.values_at(epoch)["optim.lr"] for epoch in (1, 2, 3, 4)] == [
        5e-4,
        4e-4,
        4e-4,
        5e-4,
    ]
    assert trial.current == {"optim.lr": 5e-4, "model.num_hidden_layers": 1}


def test_a_sweep_is_not_overwritten_unasked(ledger, record):
    with pytest.raises(ConfigError, match="6 of 7 trials have ended"):
        begin_or_resume(ledger.folder, record)
    run = replace(record.base.run, overwrite=True)
    fresh = begin_or_resume(ledger.folder, record._replace(base=replace(record.base, run=run)))
    assert fresh.trials == {}
    assert not list((ledger.folder / "trials").iterdir())


def resumed(record, **changes):
    base = record.base
    for key, value in changes.items():
        section, field = key.split("__")
        base = replace(base, **{section: replace(getattr(base, section), **{field: value})})
    return record._replace(base=replace(base, run=replace(base.run, resume=True)))


def test_a_sweep_goes_on_with_more_trials_and_other_resources(ledger, record):
    more = resumed(record, scaling__train_workers=1)
    more = more._replace(sweep=replace(record.sweep, trials=20, concurrent=1))
    assert begin_or_resume(ledger.folder, more).trials == ledger.trials
    assert Ledger.open(ledger.folder).settings().sweep.trials == 20


def test_a_sweep_does_not_go_on_with_what_makes_trials_incomparable(ledger, record):
    with pytest.raises(ConfigError, match=r"optim\.epochs was 4 and is 5 now"):
        begin_or_resume(ledger.folder, resumed(record, optim__epochs=5))
    narrower = record.space._replace(dimensions=record.space.dimensions[:1])
    with pytest.raises(ConfigError, match="num_hidden_layers was choice"):
        begin_or_resume(ledger.folder, resumed(record)._replace(space=narrower))
    other = replace(record.sweep, scheduler="none")
    with pytest.raises(ConfigError, match=r"tune\.scheduler was asha and is none now"):
        begin_or_resume(ledger.folder, resumed(record)._replace(sweep=other))
    fewer = replace(record.sweep, trials=3)
    with pytest.raises(ConfigError, match="has 7 trials already"):
        begin_or_resume(ledger.folder, resumed(record)._replace(sweep=fewer))


def test_a_broken_or_newer_file_is_named(ledger, tmp_path):
    with pytest.raises(ConfigError, match="holds no sweep"):
        Ledger.open(tmp_path)
    file = ledger.folder / "sweep.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(ConfigError, match="newer metro_ray"):
        ledger.settings()
    (ledger.trial_folder(2) / "trial.json").write_text("{")
    with pytest.raises(ConfigError, match=r"002/trial\.json cannot be read"):
        Ledger.open(ledger.folder)
