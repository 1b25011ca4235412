"""What Tune is given and what becomes of what it tells, with a stand-in for Tune's trials."""

import pytest
from past_sweep import write_checkpoint, write_metrics

from metro_ray.bodies.spec import get_spec
from metro_ray.cluster.tune_population import PopulationScheduler
from metro_ray.cluster.tune_trials import LedgerSearcher, TrialKeeper
from metro_ray.config.load import from_dict
from metro_ray.config.sweep_cli import parse_tune
from metro_ray.errors import TrainingError
from metro_ray.sweeps.best import best_checkpoint
from metro_ray.sweeps.footprint import Footprints
from metro_ray.sweeps.ledger import Ledger, SweepRecord, Trial
from metro_ray.sweeps.search import make_search

METRIC = "val/pa_mpjpe_mm"
LR = [1e-4, 2e-4, 4e-4, 8e-4]


class TuneTrial:
    """What callbacks and schedulers see of a trial."""

    def __init__(self, number, error=None, **result):
        self.config, self.last_result = {"number": number}, result
        self._error = error

    def get_pickled_error(self):
        return self._error

    def get_error(self):
        return None

    def set_config(self, config):
        self.config = config


class Controller:
    def __init__(self):
        self.paused = []

    def pause_trial(self, trial, should_checkpoint):
        assert not should_checkpoint
        self.paused.append(trial)


class Sweep:
    """A ledger of running trials, a keeper and a searcher over it."""

    def __init__(self, folder, *more):
        argv = ["--preset", "demo", "--tune.space", "lr", "--optim.epochs", "3"]
        argv += ["--tune.search", "random", "--tune.keep", "1", "--run.output_dir", str(folder)]
        request = parse_tune("body", [*argv, *more])
        self.record = SweepRecord(request.base, request.sweep, request.space)
        self.ledger = Ledger.begin(folder, self.record)
        self.lines, self.stopped = [], set()
        search = make_search(*self.record)
        self.keeper = TrialKeeper(self.ledger, self.record, search, self.stopped, self.lines.append)
        footprints = Footprints(get_spec("anny_body"))
        self.searcher = LedgerSearcher(self.ledger, self.record, search, footprints, num_trials=4)

    def train(self, number, errors):
        """A trial that has reported so many epochs."""
        self.ledger.put(Trial(number=number, values={"optim.lr": LR[number]}))
        tune_trial = TuneTrial(number, epoch=len(errors))
        self.keeper.on_trial_start(0, [], tune_trial)
        folder = self.ledger.trial_folder(number)
        for epoch, error in enumerate(errors, 1):
            write_metrics(folder, errors[:epoch])
            self.keeper.on_trial_result(0, [], tune_trial, {"epoch": epoch, METRIC: error})
        write_checkpoint(folder, len(errors), errors[-1]) if errors else None
        return tune_trial


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path / "sweep")


def test_unfinished_trials_come_first_then_new_ones_then_none(sweep):
    sweep.train(0, [100.0, 90.0, 80.0])
    sweep.keeper.on_trial_complete(0, [], TuneTrial(0))
    sweep.train(1, [100.0])
    going_on = LedgerSearcher(
        Ledger.open(sweep.ledger.folder),
        sweep.record,
        make_search(*sweep.record),
        Footprints(get_spec("anny_body")),
        num_trials=3,
    )
    first, second = going_on.suggest("a"), going_on.suggest("b")
    assert (first["number"], second["number"]) == (1, 2)
    assert going_on.suggest("c") == "FINISHED"
    config = from_dict(first["config"])
    assert config.optim.lr == LR[1]
    assert config.run.output_dir == str(sweep.ledger.trial_folder(1))
    stored = Ledger.open(sweep.ledger.folder).trials[2]
    assert stored.state == "waiting", "it is on disk before Tune hears of it"
    assert stored.parameters > 1e7


def test_done_stopped_failed_and_interrupted_are_told_apart(sweep):
    sweep.keeper.on_trial_complete(0, [], sweep.train(0, [100.0, 90.0, 80.0]))
    stopped = sweep.train(1, [110.0])
    sweep.stopped.add(1)
    sweep.keeper.on_trial_complete(0, [], stopped)
    sweep.keeper.on_trial_complete(0, [], sweep.train(2, [105.0]))
    failed = sweep.train(3, [])
    failed._error = TrainingError("step 2 is not finite")
    sweep.keeper.on_trial_error(0, [], failed)
    trials = Ledger.open(sweep.ledger.folder).trials
    states = [trials[number].state for number in range(4)]
    assert states == ["done", "stopped", "running", "failed"]
    assert trials[3].error == "step 2 is not finite"
    assert "TrainingError" in (sweep.ledger.trial_folder(3) / "error.txt").read_text()
    assert trials[0].wall_seconds > 0
    assert "trial 1 stopped after epoch 1" in sweep.lines
    assert any("epoch 3/3  PA-MPJPE 80.0 mm  (best 80.0, trial 0)" in x for x in sweep.lines)


def test_a_trial_that_cannot_run_is_failed_without_another_start(sweep):
    refused = sweep.train(0, [])
    refused.last_result = {"error": "data.train_yaml is gone"}
    sweep.keeper.on_trial_complete(0, [], refused)
    assert sweep.ledger.trials[0].state == "failed"
    assert sweep.ledger.trials[0].error == "data.train_yaml is gone"


def test_only_the_best_checkpoints_stay(sweep):
    """tune.keep is 1 here; those of trials that go on are not touched."""
    sweep.train(2, [300.0])
    for number, error in ((0, 90.0), (1, 80.0), (3, 85.0)):
        sweep.keeper.on_trial_complete(0, [], sweep.train(number, [error + 2, error + 1, error]))
    kept = [n for n in range(4) if (sweep.ledger.trial_folder(n) / "checkpoints").exists()]
    assert kept == [1, 2]
    assert best_checkpoint(sweep.ledger.folder).trial == 1


def test_the_worst_of_a_population_goes_on_from_the_best(tmp_path):
    sweep = Sweep(tmp_path / "sweep", "--tune.scheduler", "pbt")
    trials = {n: sweep.train(n, [error]) for n, error in enumerate((90.0, 120.0, 100.0, 110.0))}
    rule, controller = (
        PopulationScheduler(sweep.ledger, sweep.record, sweep.lines.append),
        Controller(),
    )

    def decide(number, epoch=1):
        return rule.on_trial_result(controller, trials[number], {"epoch": epoch, METRIC: 1.0})

    assert [decide(number) for number in (0, 2, 3)] == ["CONTINUE"] * 3
    assert decide(1) == "NOOP"
    assert controller.paused == [trials[1]]
    config = trials[1].config
    assert config["donor"] == str(sweep.ledger.trial_folder(0))
    ours = Ledger.open(sweep.ledger.folder).trials[1]
    assert ours.changes[0]["from"] == 0
    assert ours.values == {"optim.lr": LR[1]}
    assert ours.current == {"optim.lr": config["config"]["optim"]["lr"]}
    assert decide(1, epoch=2) == "CONTINUE", "it never goes back to an epoch that it has behind it"
    assert decide(2, epoch=3) == "STOP"
