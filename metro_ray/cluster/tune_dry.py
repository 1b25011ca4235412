"""`--dry-run`: what a sweep would do, without a cluster and without rendering or training."""

from __future__ import annotations

import os

from metro_ray.cluster.machine import memory_bytes, num_gpus, usable_cpus
from metro_ray.cluster.resources import NodeResources
from metro_ray.cluster.tune_plan import PROCESS_BYTES, TRIAL_BYTES, concurrent_trials
from metro_ray.config.sweep import chosen_search, num_trials, trial_config
from metro_ray.config.sweep_cli import SweepRequest
from metro_ray.sweeps.search import first_values, make_search
from metro_ray.sweeps.status import cell_text, columns

_GIB = 2**30


def dry_run(request: SweepRequest) -> str:
    """The trials by number with parameters and memory, and how many run at a time.

    Values that TPE would choose by what it has learned are drawn as if nothing was known.

    Raises:
        MetroRayError: The space, the network of a trial, or a cluster without place for one.
    """
    from metro_ray.bodies import load_body, resolve_mesh
    from metro_ray.sweeps.footprint import Footprints

    base, sweep, space = request.base, request.sweep, request.space
    mesh, _ = resolve_mesh(base.kind, base.model.mesh, base.assets.root)
    footprints = Footprints(load_body(mesh, base.assets.root).spec)
    search, total = make_search(base, sweep, space), num_trials(sweep, space)
    lines, largest = [], 0
    for number in range(total):
        values = search.ask(number)
        footprint = footprints.of(trial_config(base, space, values, "unused"))
        largest = max(largest, footprint.step_bytes)
        cells = [cell_text(values[dimension.key]) for dimension in space.dimensions]
        memory = f"{footprint.step_bytes / _GIB:.2f} GiB"
        lines.append([str(number), *cells, f"{footprint.parameters / 1e6:.1f} M", memory])
    names = [dimension.key for dimension in space.dimensions]
    ranges = [f"  {dimension.key}: {dimension.text}" for dimension in space.dimensions]
    ranges += [f"  {key}: {cell_text(value)} for all" for key, value in space.fixed.items()]
    return "\n".join(
        [
            f"{total} trials of {base.optim.epochs} epochs, search {chosen_search(sweep, space)}, "
            f"early stopping {sweep.scheduler}:",
            *ranges,
            *_first_line(request),
            *columns(["trial", *names, "parameters", "memory of a rank"], lines),
            _place(request, total, largest),
        ]
    )


def _first_line(request: SweepRequest) -> list[str]:
    search = chosen_search(request.sweep, request.space)
    lines = []
    if search != "grid" and request.sweep.first:
        inside = first_values(request.base, request.space) is not None
        lines.append(
            "trial 0 has the settings as given"
            if inside
            else "the settings as given lie outside of the space, so no trial has them"
        )
    if search == "optuna":
        lines.append("values after the first few trials will follow what was learned by then")
    return lines


def _place(request: SweepRequest, total: int, largest: int) -> str:
    if "RAY_ADDRESS" in os.environ:
        return "how many run at a time is decided by the cluster at RAY_ADDRESS"
    ranks = request.base.scaling.train_workers or 1
    concurrent, limit = concurrent_trials(
        [NodeResources(usable_cpus(), num_gpus())],
        request.base,
        wanted=request.sweep.concurrent,
        num_trials=total,
        trial_bytes=TRIAL_BYTES + ranks * (PROCESS_BYTES + largest),
        memory_bytes=memory_bytes(),
    )
    return f"on this machine {concurrent} at a time ({limit})"
