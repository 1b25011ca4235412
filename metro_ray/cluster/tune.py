"""run_tune: a search space becomes trials on a cluster, and their outcome files in a folder.

What may happen to a sweep is decided in `sweeps` and written to its ledger; Tune runs the trials
and asks a rule of early stopping after each epoch. A sweep that goes on reads its ledger, not
Tune's records, which are gone with the process that ran it.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from metro_ray.cluster.connect import cluster, live_nodes, replan, set_where_unset
from metro_ray.cluster.machine import memory_bytes, num_gpus, usable_cpus
from metro_ray.cluster.preflight import CheckedRun, check_run
from metro_ray.cluster.resources import NodeResources
from metro_ray.cluster.run_folder import ray_records
from metro_ray.cluster.shared_storage import require_shared_storage
from metro_ray.cluster.tune_plan import (
    PROCESS_BYTES,
    TRIAL_BYTES,
    SweepPlan,
    concurrent_trials,
    share,
    with_ranks,
)
from metro_ray.config.sweep import num_trials, trial_config
from metro_ray.config.sweep_cli import SweepRequest
from metro_ray.errors import ResourceError, RunStopped, TrainingError
from metro_ray.sweeps.begin import begin_or_resume
from metro_ray.sweeps.best import BestOfSweep, write_best
from metro_ray.sweeps.ledger import Ledger, SweepRecord
from metro_ray.sweeps.search import Search, make_search
from metro_ray.sweeps.status import status_text

Say = Callable[[str], None]
_ENVIRONMENT = {
    "RAY_LOG_TO_DRIVER": "0",  # every trial has its own log.txt
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "3600",
    "RAY_AIR_NEW_OUTPUT": "0",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSummary:
    """What a sweep came to."""

    folder: Path
    best: BestOfSweep
    status: str

    def text(self) -> str:
        """A few lines for people."""
        return "\n".join(
            [
                self.status,
                f"checkpoint  {self.best.checkpoint}",
                f"preset      {self.best.config}",
                f"report      {self.folder / 'report.html'}",
            ]
        )


def run_tune(request: SweepRequest, say: Say) -> SweepSummary:
    """Run a sweep on the cluster of `RAY_ADDRESS` or on this machine, or go on with one.

    Args:
        request: From the command line.
        say: Gets lines about what happens.

    Raises:
        MetroRayError: Settings, files or resources; or no trial came to anything.
        RunStopped: SIGTERM asked the sweep to end; it can go on.
    """
    from metro_ray.bodies import load_body
    from metro_ray.sweeps.footprint import Footprints

    base = request.base
    folder = Path(base.run.output_dir).absolute()
    search = make_search(base, request.sweep, request.space)
    run = check_trials(request)
    spec = load_body(run.mesh, run.config.assets.root).spec
    footprints = Footprints(spec)
    ends = [footprints.of(config) for config in extreme_configs(request)]
    record = SweepRecord(
        replace(base, run=replace(base.run, output_dir=str(folder))), request.sweep, request.space
    )
    ledger = begin_or_resume(folder, record)
    for number in sorted(ledger.trials):
        search.recall(ledger.trials[number], ledger.history(number))
    left = num_trials(record.sweep, record.space) - sum(
        trial.has_ended for trial in ledger.trials.values()
    )
    was_terminated = False
    if left > 0:
        step_bytes = max(footprint.step_bytes for footprint in ends)
        with _swept(record, left, step_bytes) as plan, interrupted_by_sigterm() as terminated:
            say(plan.text)
            _run_trials(ledger, record, search, footprints, run, plan, say)
            was_terminated = terminated.is_set()
    try:
        return finish(ledger, record)
    except RunStopped as stopped:
        if was_terminated:
            raise
        say(str(stopped))
        raise KeyboardInterrupt from None


def check_trials(request: SweepRequest) -> CheckedRun:
    """Open what the trials will open, once for all; render data that is missing.

    Raises:
        MetroRayError: As `check_run`.
    """
    base = request.base
    settings = replace(base.run, resume=False, overwrite=False)
    run = check_run(replace(base, run=settings))
    for dimension in request.space.dimensions:
        if dimension.key == "data.train_yaml":
            for value in dimension.values:
                check_run(replace(run.config, data=replace(base.data, train_yaml=value)))
    return run


def extreme_configs(request: SweepRequest) -> list[Any]:
    """A configuration for each end of each dimension, the other dimensions at their last end."""
    last = {dimension.key: dimension.ends[-1] for dimension in request.space.dimensions}
    points = [last]
    for dimension in request.space.dimensions:
        if dimension.key.startswith("model.") or dimension.key.startswith("optim.per_gpu"):
            points += [last | {dimension.key: value} for value in dimension.ends]
    return [trial_config(request.base, request.space, point, "unused") for point in points]


def finish(ledger: Ledger, record: SweepRecord) -> SweepSummary:
    """Write what the sweep leaves behind.

    Raises:
        RunStopped: Trials are left.
        TrainingError: No trial has a checkpoint.
    """
    from metro_ray.cluster.tune_trials import settle
    from metro_ray.sweeps.report import write_report

    settle(ledger, record)
    write_report(ledger, record)
    ended = sum(trial.has_ended for trial in ledger.trials.values())
    total = num_trials(record.sweep, record.space)
    if ended < total:
        raise RunStopped(
            f"stopped with {ended} of {total} trials; the same command with --run.resume true goes "
            "on from there"
        )
    best = write_best(ledger, record)
    if best is None:
        reasons = {trial.error for trial in ledger.trials.values() if trial.error}
        raise TrainingError(
            f"none of the {total} trials came to a checkpoint: {'; '.join(sorted(reasons))}"
        )
    return SweepSummary(folder=ledger.folder, best=best, status=status_text(ledger))


@contextmanager
def _swept(record: SweepRecord, left: int, step_bytes: int) -> Iterator[SweepPlan]:
    """Have a cluster with place for as many trials as fit.

    Raises:
        ResourceError: Not one fits, or fewer than were asked for.
    """
    with set_where_unset(_ENVIRONMENT):
        import ray

        base = record.base
        ranks = base.scaling.train_workers or 1
        trial_bytes = TRIAL_BYTES + ranks * (PROCESS_BYTES + step_bytes)

        def count(nodes: list[NodeResources], memory: int | None) -> tuple[int, str]:
            return concurrent_trials(
                nodes,
                base,
                wanted=record.sweep.concurrent,
                num_trials=left,
                trial_bytes=trial_bytes,
                memory_bytes=memory,
            )

        starts_one = "RAY_ADDRESS" not in os.environ and not ray.is_initialized()
        concurrent, limit = 1, ""
        if starts_one:
            here = NodeResources(usable_cpus(), num_gpus())
            concurrent, limit = count([here], memory_bytes())
        with cluster(with_ranks(base, concurrent * ranks)) as plan:
            if not starts_one:
                concurrent, limit = count(live_nodes(), None)
                plan = replan(with_ranks(base, concurrent * ranks))
            if record.sweep.scheduler == "pbt" and concurrent < left:
                raise ResourceError(
                    f"tune.scheduler pbt trains all {left} trials at the same time, but there is "
                    f"place for {concurrent} ({limit}): lower tune.trials, or use asha"
                )
            require_shared_storage(base, plan)
            trial = share(plan, concurrent, ranks, len(live_nodes()))
            yield SweepPlan(concurrent=concurrent, trial=trial, limit=limit)


def _run_trials(
    ledger: Ledger,
    record: SweepRecord,
    search: Search,
    footprints: Any,
    run: CheckedRun,
    plan: SweepPlan,
    say: Say,
) -> None:
    from ray import tune

    from metro_ray.cluster.tune_population import PopulationScheduler
    from metro_ray.cluster.tune_schedule import RememberingScheduler, make_rule
    from metro_ray.cluster.tune_trial import RESOURCES, run_trial
    from metro_ray.cluster.tune_trials import LedgerSearcher, TrialKeeper

    total = num_trials(record.sweep, record.space)
    epochs = record.base.optim.epochs
    ended = [number for number, trial in ledger.trials.items() if trial.has_ended]
    past = {number: ledger.history(number) for number in ledger.trials}
    if record.sweep.scheduler == "pbt":
        scheduler = PopulationScheduler(ledger, record, say)
    else:
        rule = make_rule(record.sweep, epochs)
        scheduler = RememberingScheduler(rule, epochs, past, ended)
    shutil.rmtree(ledger.folder / ".ray", ignore_errors=True)  # of a process that was killed
    with ray_records(ledger.folder) as storage:
        tuner = tune.Tuner(
            tune.with_resources(run_trial, RESOURCES),
            param_space={
                "folder": str(Path.cwd()),
                "plan": asdict(plan.trial),
                "mesh": run.mesh,
                "mesh_reason": run.mesh_reason,
            },
            tune_config=tune.TuneConfig(
                search_alg=LedgerSearcher(ledger, record, search, footprints, total),
                scheduler=scheduler,
                num_samples=total - len(ended),
                max_concurrent_trials=plan.concurrent,
            ),
            run_config=tune.RunConfig(
                name=storage.name,
                storage_path=str(storage.parent),
                verbose=0,
                callbacks=[TrialKeeper(ledger, record, search, scheduler.stopped, say)],
                failure_config=tune.FailureConfig(max_failures=record.sweep.max_failures),
            ),
        )
        # What failed is told in a line, and its traceback is in the trial's error.txt.
        logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
        try:
            tuner.fit()
        except tune.TuneError as error:
            raise ResourceError(f"Ray Tune stopped: {error}") from error


@contextmanager
def interrupted_by_sigterm() -> Iterator[threading.Event]:
    """SIGTERM becomes Ctrl-C, at which Tune ends in order; tells whether there was one."""
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated
        return

    def on_sigterm(*_: Any) -> None:
        terminated.set()
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)
