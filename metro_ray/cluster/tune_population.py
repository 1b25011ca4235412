"""Population-based training: after some epochs the worst trials go on from the best.

All trials train at the same time, so that there is somebody to go on from.

Ray's own scheduler hands checkpoints through Tune, where ours are not: a trial is a Ray Train run
that keeps its checkpoints in its folder. So the rule is here, and what it decides is in the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from metro_ray.cluster.tune_trials import setup_of
from metro_ray.config.sweep import seeded, trial_config
from metro_ray.sweeps.adopt import explore
from metro_ray.sweeps.ledger import Ledger, SweepRecord

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

_QUANTILE = 0.25


class PopulationScheduler(FIFOScheduler):
    """Every `tune.grace_epochs` epochs a trial of the worst quarter takes over one of the best.

    Args:
        ledger: Of the sweep.
        record: Its settings.
        say: Gets a line at each change.
    """

    def __init__(self, ledger: Ledger, record: SweepRecord, say: Callable[[str], None]) -> None:
        super().__init__()
        self._ledger, self._record, self._say = ledger, record, say
        self._epochs = record.base.optim.epochs
        self.stopped: set[int] = set()

    def on_trial_result(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> str:
        if "error" in result or result.get("epoch", 0) >= self._epochs:
            return TrialScheduler.STOP
        number, epoch = trial.config["number"], int(result["epoch"])
        donor = self._donor(number, epoch) if epoch % self._record.sweep.grace_epochs == 0 else None
        if donor is None:
            return TrialScheduler.CONTINUE
        self._take_over(trial, number, donor, epoch)
        tune_controller.pause_trial(trial, should_checkpoint=False)
        return TrialScheduler.NOOP

    def _donor(self, number: int, epoch: int) -> int | None:
        """A trial of the best quarter for one of the worst; None for the others."""
        latest = {}
        for other, trial in self._ledger.trials.items():
            history = self._ledger.history(other)
            if trial.has_ended:  # it has no epochs left to give
                continue
            if history and history[-1].epoch >= epoch:  # from others this one would go back
                latest[other] = history[-1].pa_mpjpe_mm
        ranked = sorted(latest, key=lambda other: latest[other])
        size = math.ceil(len(ranked) * _QUANTILE)
        if size > len(ranked) / 2 or number not in ranked[len(ranked) - size :]:
            return None
        rng = seeded(self._record.sweep, number * 10_000 + epoch)
        return rng.choice(ranked[:size])

    def _take_over(self, trial: Trial, number: int, donor: int, epoch: int) -> None:
        rng = seeded(self._record.sweep, -1 - number * 10_000 - epoch)
        values = explore(self._record.space, self._ledger.trials[donor].current, rng)
        before = self._ledger.trials[number]
        change = {"epoch": epoch, "from": donor, "values": values}
        changed = self._ledger.change(number, changes=[*before.changes, change])
        folder = self._ledger.trial_folder(number)
        config = trial_config(self._record.base, self._record.space, values, folder)
        trial.set_config({**trial.config, **setup_of(changed, config, self._ledger)})
        self._say(f"trial {number} goes on from trial {donor} with changed values")
