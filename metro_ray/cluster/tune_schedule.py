"""Who decides after each epoch whether a trial goes on, with a memory of earlier parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from metro_ray.config.sweep import METRIC, SweepConfig

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

    from metro_ray.sweeps.ledger import Epoch

TIME = "epoch"


def make_rule(sweep: SweepConfig, epochs: int) -> TrialScheduler:
    """Tune's rule of early stopping."""
    if sweep.scheduler == "asha":
        return ASHAScheduler(
            time_attr=TIME,
            metric=METRIC,
            mode="min",
            max_t=epochs,
            grace_period=sweep.grace_epochs,
            reduction_factor=sweep.reduction_factor,
        )
    if sweep.scheduler == "median":
        return MedianStoppingRule(
            time_attr=TIME, metric=METRIC, mode="min", grace_period=sweep.grace_epochs
        )
    return FIFOScheduler()


class PastTrial:
    """Stands for a trial that ended before the sweep went on."""

    def __init__(self, number: int) -> None:
        self.trial_id = f"past-{number}"

    def __repr__(self) -> str:
        return self.trial_id


class RememberingScheduler(FIFOScheduler):
    """A rule of early stopping that knows what earlier parts of the sweep saw.

    Trials that have all their epochs end, whatever the rule; the rule never lets one wait.

    Args:
        rule: Asked after each epoch.
        epochs: Of a whole trial.
        past: Validations by number of the trial, of those that have ended and of those that go on.
        ended: Numbers of those that have ended.

    Attributes:
        stopped: Numbers of the trials that the rule has stopped.
    """

    def __init__(
        self,
        rule: TrialScheduler,
        epochs: int,
        past: Mapping[int, Sequence[Epoch]],
        ended: Sequence[int],
    ) -> None:
        super().__init__()
        self._rule, self._epochs = rule, epochs
        self._past, self._ended = dict(past), list(ended)
        self._metric = METRIC
        self.stopped: set[int] = set()

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return metric is None and mode is None

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        for number in self._ended:
            stand_in: Any = PastTrial(number)
            self._rule.on_trial_add(tune_controller, stand_in)
            self._replay(tune_controller, stand_in, self._past.get(number, ()))
        self._ended = []
        self._rule.on_trial_add(tune_controller, trial)
        self._replay(tune_controller, trial, self._past.get(trial.config["number"], ()))

    def on_trial_result(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> str:
        if METRIC not in result:
            return TrialScheduler.STOP if "error" in result else TrialScheduler.CONTINUE
        decision = self._rule.on_trial_result(tune_controller, trial, result)
        if result[TIME] >= self._epochs:
            return TrialScheduler.STOP
        if decision == TrialScheduler.STOP:
            self.stopped.add(trial.config["number"])
            return TrialScheduler.STOP
        return TrialScheduler.CONTINUE

    def on_trial_complete(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> None:
        if METRIC in result:
            self._rule.on_trial_complete(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        self._rule.on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        self._rule.on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        return self._rule.debug_string()

    def _replay(self, controller: TuneController, trial: Any, history: Sequence[Epoch]) -> None:
        """Show the rule what was reported before; what it says to that was decided then."""
        keeps_only = isinstance(self._rule, MedianStoppingRule)
        show = self._rule.on_trial_complete if keeps_only else self._rule.on_trial_result
        for epoch in history:
            if epoch.epoch < self._epochs:
                show(controller, trial, {TIME: epoch.epoch, METRIC: epoch.pa_mpjpe_mm})
