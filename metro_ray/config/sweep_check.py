"""What can be found wrong with a sweep before anything is opened or started."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Any

from metro_ray.config.load import build_config
from metro_ray.config.schema import TrainConfig
from metro_ray.config.space import Space
from metro_ray.config.sweep import (
    SweepConfig,
    can_change_midway,
    chosen_search,
    settings_of,
)
from metro_ray.errors import ConfigError

_MOST_COMBINATIONS = 4096


def check_space(base: TrainConfig, space: Space) -> list[str]:
    """Build a configuration of every combination that can fail; what failed, once each.

    Lists take part with each value, ranges with both ends. Beyond 4096 combinations all pairs of
    keys are combined, which is what the rules of the settings compare.
    """
    settings = settings_of(base) | space.fixed
    ends = [(dimension.key, dimension.ends) for dimension in space.dimensions]
    keys = [key for key, _ in ends]
    failed: dict[str, int] = {}
    total = 0
    if math.prod(len(values) for _, values in ends) <= _MOST_COMBINATIONS:
        tried = (dict(zip(keys, v, strict=True)) for v in product(*(values for _, values in ends)))
    else:
        tried = _pairs(ends)
    for values in tried:
        total += 1
        try:
            build_config(base.kind, settings | values)
        except ConfigError as error:
            for line in str(error).splitlines():
                failed[line] = failed.get(line, 0) + 1
    return [f"{line} (in {count} of {total} combinations)" for line, count in failed.items()]


def _pairs(ends: Sequence[tuple[str, tuple[Any, ...]]]) -> Iterator[dict[str, Any]]:
    middle = {key: values[0] for key, values in ends}
    for (first, ones), (second, others) in combinations(ends, 2):
        for one, other in product(ones, others):
            yield middle | {first: one, second: other}


def check_search(base: TrainConfig, sweep: SweepConfig, space: Space) -> list[str]:
    problems = []
    search = chosen_search(sweep, space)
    if search == "grid" and space.num_grid_points is None:
        ranges = [d.key for d in space.dimensions if not d.is_list]
        problems.append(
            f"tune.search grid needs lists, and {', '.join(ranges)} have ranges: use grid or "
            "choice for them, or --tune.search random"
        )
    grids = [d.key for d in space.dimensions if d.distribution == "grid"]
    if search == "optuna" and grids:
        problems.append(
            f"{', '.join(grids)} have grid, all of whose values are tried: use choice for a search "
            "by optuna, or --tune.search random"
        )
    if base.data.val_yaml is None:
        problems.append("trials are compared by their validation: give --val_yaml")
    if base.eval.only:
        problems.append("eval.only makes no trials: leave --run_eval_only out")
    if base.run.upload_to is not None:
        problems.append("run.upload_to is for single runs: copy the sweep's folder when it is done")
    if sweep.grace_epochs > base.optim.epochs:
        problems.append(
            f"tune.grace_epochs must be at most optim.epochs = {base.optim.epochs}, got "
            f"{sweep.grace_epochs}"
        )
    if sweep.scheduler == "pbt":
        problems += _check_pbt(space)
    return problems


def _check_pbt(space: Space) -> list[str]:
    kept = [d.key for d in space.dimensions if not can_change_midway(d.key)]
    if not kept:
        return []
    return [
        f"tune.scheduler pbt changes values while a trial trains, and {', '.join(kept)} cannot be "
        "changed then: search them with asha"
    ]
