"""Early stopping, and that a sweep which goes on decides with what earlier parts saw."""

from metro_ray.cluster.tune_schedule import RememberingScheduler, make_rule
from metro_ray.config.sweep import METRIC, SweepConfig
from metro_ray.sweeps.ledger import Epoch

CONTINUE, STOP = "CONTINUE", "STOP"
EPOCHS = 9


class FakeTrial:
    def __init__(self, number):
        self.trial_id, self.config = f"t{number}", {"number": number}


class FakeController:
    def get_live_trials(self):
        return []


def scheduler(past=(), ended=(), **settings):
    sweep = SweepConfig(**{"scheduler": "asha", **settings})
    histories = {number: history(errors) for number, errors in dict(past).items()}
    return RememberingScheduler(make_rule(sweep, EPOCHS), EPOCHS, histories, list(ended))


def history(errors):
    return [Epoch(epoch, error, 1.0, None) for epoch, error in enumerate(errors, 1)]


def report(rule, trial, epoch, error):
    return rule.on_trial_result(FakeController(), trial, {"epoch": epoch, METRIC: error})


def added(rule, number):
    trial = FakeTrial(number)
    rule.on_trial_add(FakeController(), trial)
    return trial


def test_asha_stops_the_worse_at_a_rung():
    rule = scheduler()
    good, bad, better = (added(rule, number) for number in range(3))
    assert report(rule, good, 1, 100.0) == CONTINUE
    assert report(rule, bad, 1, 120.0) == STOP
    assert report(rule, better, 1, 90.0) == CONTINUE
    assert report(rule, better, EPOCHS, 80.0) == STOP
    assert rule.stopped == {1}, "a whole trial was not stopped early"


def test_the_last_epoch_ends_every_trial():
    for kind in ("asha", "median", "none"):
        rule = scheduler(scheduler=kind)
        trial = added(rule, 0)
        assert report(rule, trial, EPOCHS - 1, 100.0) == CONTINUE
        assert report(rule, trial, EPOCHS, 90.0) == STOP


def test_a_sweep_that_goes_on_knows_the_trials_before():
    """The same report goes on in a new sweep and is stopped where better trials came before."""
    fresh = scheduler()
    assert report(fresh, added(fresh, 5), 1, 100.0) == CONTINUE
    past = {0: [80.0, 70.0], 1: [85.0], 2: [82.0]}
    rule = scheduler(past, ended=[0, 1, 2])
    assert report(rule, added(rule, 5), 1, 100.0) == STOP
    assert report(rule, added(rule, 6), 1, 70.0) == CONTINUE


def test_a_trial_that_goes_on_is_not_judged_again_at_a_rung_it_passed():
    others = {0: [100.0], 1: [90.0]}
    rule = scheduler(others | {2: [70.0]}, ended=[0, 1])
    assert report(rule, added(rule, 2), 2, 99.0) == CONTINUE
    forgetful = scheduler(others, ended=[0, 1])
    assert report(forgetful, added(forgetful, 2), 2, 99.0) == STOP


def test_median_stops_what_is_behind_the_others_and_lets_nobody_wait():
    past = {number: [100.0 + number] * 4 for number in range(4)}
    rule = scheduler(past, ended=list(past), scheduler="median", grace_epochs=2)
    assert report(rule, trial := added(rule, 9), 1, 200.0) == CONTINUE, "within its grace"
    assert report(rule, trial, 2, 200.0) == STOP
    good = added(rule, 10)
    assert report(rule, good, 1, 90.0) == CONTINUE
    assert report(rule, good, 3, 80.0) == CONTINUE


def test_nobody_is_stopped_without_a_rule():
    rule = scheduler({0: [10.0]}, ended=[0], scheduler="none")
    assert report(rule, added(rule, 1), 3, 1000.0) == CONTINUE


def test_a_trial_that_cannot_run_ends():
    rule = scheduler()
    trial = added(rule, 0)
    assert rule.on_trial_result(FakeController(), trial, {"error": "no"}) == STOP
    rule.on_trial_complete(FakeController(), trial, {"error": "no"})
