"""Where the values of a trial come from: a grid, chance, or Optuna's TPE.

Every answer depends on (seed, number of the trial, what the trials so far came to) alone, so a
sweep that goes on asks for what one that never stopped would have asked for.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Protocol

from metro_ray.config.schema import TrainConfig
from metro_ray.config.space import Dimension, Space
from metro_ray.config.sweep import SweepConfig, chosen_search, seeded, settings_of
from metro_ray.errors import ConfigError
from metro_ray.sweeps.ledger import Epoch, Trial

if TYPE_CHECKING:
    import optuna

_STARTUP_SHARE, _MOST_STARTUP = 3, 10
"""TPE draws by chance until it has seen a third of the trials, at most ten."""


class Search(Protocol):
    """Gives values to trials and learns what they came to."""

    def ask(self, number: int) -> dict[str, Any]:
        """Values for a new trial by dotted key."""
        ...

    def recall(self, trial: Trial, history: Sequence[Epoch]) -> None:
        """A trial from before the sweep went on, ended or not; in the order of their numbers."""
        ...

    def tell(self, trial: Trial, history: Sequence[Epoch]) -> None:
        """What a trial that has ended came to."""
        ...


def make_search(base: TrainConfig, sweep: SweepConfig, space: Space) -> Search:
    """The search that the settings ask for.

    Raises:
        ConfigError: Optuna is needed and not installed.
    """
    first = first_values(base, space) if sweep.first else None
    search = chosen_search(sweep, space)
    if search == "grid":
        return GridSearch(space)
    if search == "random":
        return RandomSearch(sweep, space, first)
    return TpeSearch(sweep, space, first)


def first_values(base: TrainConfig, space: Space) -> dict[str, Any] | None:
    """The settings as given, as a point of the space; None where they lie outside."""
    settings = settings_of(base)
    values = {dimension.key: settings[dimension.key] for dimension in space.dimensions}
    if all(dimension.contains(values[dimension.key]) for dimension in space.dimensions):
        return values
    return None


class GridSearch:
    """Every combination of the lists, in order."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def ask(self, number: int) -> dict[str, Any]:
        return next(islice(self._space.grid(), number, None))

    def recall(self, trial: Trial, history: Sequence[Epoch]) -> None:
        pass

    def tell(self, trial: Trial, history: Sequence[Epoch]) -> None:
        pass


class RandomSearch:
    """Each trial by chance; lists called `grid` are gone through instead, again and again."""

    def __init__(self, sweep: SweepConfig, space: Space, first: Mapping[str, Any] | None) -> None:
        self._sweep, self._space, self._first = sweep, space, first
        grids = [d for d in space.dimensions if d.distribution == "grid"]
        self._grid = list(Space(tuple(grids), {}).grid())

    def ask(self, number: int) -> dict[str, Any]:
        if self._first is not None:
            if number == 0:
                return dict(self._first)
            number -= 1
        drawn = self._space.draw(seeded(self._sweep, number))
        return drawn | self._grid[number % len(self._grid)]

    def recall(self, trial: Trial, history: Sequence[Epoch]) -> None:
        pass

    def tell(self, trial: Trial, history: Sequence[Epoch]) -> None:
        pass


class TpeSearch:
    """Optuna's tree-structured Parzen estimator.

    Stopped trials are told as pruned, with the epochs they had; running ones count as bad, so that
    trials at the same time look at different places.
    """

    def __init__(self, sweep: SweepConfig, space: Space, first: Mapping[str, Any] | None) -> None:
        optuna = import_optuna()
        self._sweep, self._space = sweep, space
        self._first = None if first is None else dict(first)
        self._study = optuna.create_study(direction="minimize")
        self._axes = {d.key: _distribution(d) for d in space.dimensions}
        self._asked: dict[int, optuna.Trial] = {}

    def ask(self, number: int) -> dict[str, Any]:
        if number == 0 and self._first is not None:
            self._study.enqueue_trial(self._coded(self._first))
        self._study.sampler = _sampler(self._sweep, number)
        trial = self._asked[number] = self._study.ask(self._axes)
        return {d.key: _decoded(d, trial.params[d.key]) for d in self._space.dimensions}

    def recall(self, trial: Trial, history: Sequence[Epoch]) -> None:
        self._study.enqueue_trial(self._coded(trial.values))
        self._asked[trial.number] = self._study.ask(self._axes)
        if trial.has_ended:
            self.tell(trial, history)

    def tell(self, trial: Trial, history: Sequence[Epoch]) -> None:
        states = import_optuna().trial.TrialState
        asked = self._asked.pop(trial.number)
        for epoch in history:
            asked.report(epoch.pa_mpjpe_mm, epoch.epoch)
        if trial.state == "failed" or not history:
            self._study.tell(asked, state=states.FAIL)
        elif trial.state == "stopped":
            self._study.tell(asked, state=states.PRUNED)
        else:
            self._study.tell(asked, min(epoch.pa_mpjpe_mm for epoch in history))

    def _coded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return coded(self._space, values)


def coded(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Optuna has them: those of lists by their place."""
    return {
        d.key: d.values.index(values[d.key]) if d.is_list else values[d.key]
        for d in space.dimensions
    }


def distributions(space: Space) -> dict[str, Any]:
    """The dimensions as Optuna has them."""
    return {dimension.key: _distribution(dimension) for dimension in space.dimensions}


def import_optuna() -> Any:
    """Optuna, without its lines about each trial.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "tune.search optuna needs Optuna: pip install 'metro-ray[search]', or use "
            "--tune.search random"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(dimension: Dimension) -> Any:
    """Lists are places in the list; in order where their values are rising numbers."""
    kinds = import_optuna().distributions
    if dimension.is_list:
        places = len(dimension.values) - 1
        if places > 0 and _is_rising(dimension.values):
            return kinds.IntDistribution(0, places)
        return kinds.CategoricalDistribution(tuple(range(places + 1)))
    low, high = dimension.low, dimension.high
    if dimension.is_whole:
        step = 1 if dimension.distribution == "randint" else round(dimension.step)
        top = low + step * ((high - low) // step)
        return kinds.IntDistribution(round(low), round(top), step=step)
    if dimension.distribution == "quniform":
        return kinds.FloatDistribution(
            low, low + dimension.num_steps * dimension.step, step=dimension.step
        )
    return kinds.FloatDistribution(low, high, log=dimension.distribution == "loguniform")


def _decoded(dimension: Dimension, value: Any) -> Any:
    return dimension.values[value] if dimension.is_list else dimension.number(value)


def _is_rising(values: Sequence[Any]) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return numbers and all(a < b for a, b in pairwise(values))


def _sampler(sweep: SweepConfig, number: int) -> optuna.samplers.TPESampler:
    return import_optuna().samplers.TPESampler(
        seed=random.Random(f"{sweep.seed}/{number}").randrange(2**31),
        n_startup_trials=max(2, min(_MOST_STARTUP, sweep.trials // _STARTUP_SHARE)),
        constant_liar=True,
    )
