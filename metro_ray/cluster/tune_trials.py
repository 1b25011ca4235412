"""Between Tune and the ledger: Tune asks here for trials and tells here what became of them."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.search import Searcher

from metro_ray.cluster.failures import find_metro_error, root_cause
from metro_ray.config.load import to_dict
from metro_ray.config.sweep import METRIC, trial_config
from metro_ray.errors import MetroRayError
from metro_ray.sweeps.best import measured_checkpoint, write_best
from metro_ray.sweeps.ledger import Ledger, SweepRecord, Trial
from metro_ray.sweeps.table import write_table
from metro_ray.training.files import write_bytes

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

    from metro_ray.config.schema import TrainConfig
    from metro_ray.sweeps.footprint import Footprints
    from metro_ray.sweeps.search import Search


class LedgerSearcher(Searcher):
    """Hands out the trials that an earlier part left unfinished, then new ones.

    A trial is in the ledger before Tune hears of it. Tune's own copy of the search is not used.

    Args:
        ledger: Of the sweep.
        record: Its settings.
        search: Gives values to new trials.
        footprints: Counts their parameters.
        num_trials: Of the whole sweep.
    """

    def __init__(
        self,
        ledger: Ledger,
        record: SweepRecord,
        search: Search,
        footprints: Footprints,
        num_trials: int,
    ) -> None:
        super().__init__()
        self._ledger, self._record, self._search = ledger, record, search
        self._footprints, self._num_trials = footprints, num_trials
        trials = [ledger.trials[number] for number in sorted(ledger.trials)]
        self._unfinished = [trial for trial in trials if not trial.has_ended]

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # pyright: ignore
        del trial_id
        if self._unfinished:
            return self.setup(self._unfinished.pop(0))
        number = len(self._ledger.trials)
        if number >= self._num_trials:
            return Searcher.FINISHED
        trial = Trial(number=number, values=self._search.ask(number))
        parameters = self._footprints.of(self._config(trial)).parameters
        return self.setup(self._ledger.put(replace(trial, parameters=parameters)))

    def setup(self, trial: Trial) -> dict[str, Any]:
        """What `run_trial` gets of one trial."""
        return setup_of(trial, self._config(trial), self._ledger)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        pass  # TrialKeeper does it, which knows the trial

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        pass

    def _config(self, trial: Trial) -> TrainConfig:
        folder = self._ledger.trial_folder(trial.number)
        return trial_config(self._record.base, self._record.space, trial.current, folder)


def setup_of(trial: Trial, config: TrainConfig, ledger: Ledger) -> dict[str, Any]:
    """What `run_trial` gets of one trial: as the ledger has it, the last takeover included."""
    setup: dict[str, Any] = {"number": trial.number, "config": to_dict(config)}
    if trial.changes:
        setup["donor"] = str(ledger.trial_folder(trial.changes[-1]["from"]))
        setup["takeover"] = len(trial.changes)
    return setup


class TrialKeeper(tune.Callback):
    """Writes into the ledger what became of trials, and keeps the best of the sweep up to date.

    Args:
        ledger: Of the sweep.
        record: Its settings.
        search: Learns from trials that have ended.
        stopped: Numbers of trials that early stopping has ended; others that Tune ends before their
            last epoch were interrupted with the whole sweep and can go on.
        say: Gets a line for people at each event.
    """

    def __init__(
        self,
        ledger: Ledger,
        record: SweepRecord,
        search: Search,
        stopped: Collection[int],
        say: Callable[[str], None],
    ) -> None:
        self._stopped = stopped
        self._ledger, self._record, self._search, self._say = ledger, record, search, say
        self._epochs = record.base.optim.epochs
        self._begun: dict[int, float] = {}

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        number = trial.config["number"]
        ours = self._ledger.trials[number]
        self._begun.setdefault(number, time.monotonic())
        self._ledger.change(number, state="running", starts=ours.starts + 1)
        begun = self._ledger.history(number)
        after = f" again after epoch {begun[-1].epoch}" if begun else ""
        self._say(f"trial {number} starts{after}: {describe(ours.current)}")

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        if METRIC not in result:
            return
        number, epoch = trial.config["number"], int(result["epoch"])
        self._ledger.change(number, epochs=epoch)
        best = self._ledger.best()
        beside = (
            "" if best is None else f"  (best {best[1].pa_mpjpe_mm:.1f}, trial {best[0].number})"
        )
        error = f"PA-MPJPE {result[METRIC]:.1f} mm"
        self._say(f"trial {number}  epoch {epoch}/{self._epochs}  {error}{beside}")

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        number, error = trial.config["number"], (trial.last_result or {}).get("error")
        history = self._ledger.history(number)
        epochs = history[-1].epoch if history else 0
        if error is not None:
            self._ended(number, f"failed: {error}", state="failed", error=str(error))
        elif epochs >= self._epochs:
            self._ended(number, "is done", state="done", epochs=epochs)
        elif number in self._stopped:
            epochs = self._ledger.trials[number].epochs
            self._ended(number, f"stopped after epoch {epochs}", state="stopped", epochs=epochs)

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        number, error = trial.config["number"], trial.get_pickled_error()
        text = trial.get_error() or "its process was lost" if error is None else explain(error)
        if error is not None:
            trace = "".join(traceback.format_exception(error))
            write_bytes(self._ledger.trial_folder(number) / "error.txt", trace.encode())
        self._ended(number, f"failed: {text}", state="failed", error=text)

    def _ended(self, number: int, line: str, **changes: Any) -> None:
        took = time.monotonic() - self._begun.pop(number, time.monotonic())
        wall = round(self._ledger.trials[number].wall_seconds + took, 3)
        ended = self._ledger.change(number, wall_seconds=wall, **changes)
        self._search.tell(ended, self._ledger.history(number))
        self._say(f"trial {number} {line}")
        settle(self._ledger, self._record)


def settle(ledger: Ledger, record: SweepRecord) -> None:
    """Write best and table anew, and remove the checkpoints that are not to be kept."""
    write_best(ledger, record)
    write_table(ledger, record)
    scored: list[tuple[float, int]] = []
    for trial in ledger.trials.values():
        folder = ledger.trial_folder(trial.number)
        if not trial.has_ended:
            continue
        shutil.rmtree(folder / ".ray", ignore_errors=True)
        measured = measured_checkpoint(ledger, trial)
        if measured is not None:
            scored.append((measured[0], trial.number))
    for _, number in sorted(scored)[record.sweep.keep :]:
        shutil.rmtree(ledger.trial_folder(number) / "checkpoints", ignore_errors=True)


def describe(values: Mapping[str, Any]) -> str:
    """Values in one line."""
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )


def explain(error: BaseException) -> str:
    """Why a trial failed, in one line."""
    ours = find_metro_error(error)
    if isinstance(ours, MetroRayError):
        return str(ours)
    cause = root_cause(error)
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
