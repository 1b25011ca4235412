"""run_train: a config becomes a `TorchTrainer` on a cluster, and its outcome a `RunSummary`.

Whatever can be checked without a cluster is checked before there is one. On each rank the same
`training.loop.fit` runs as without Ray.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_ray.cluster.connect import cluster, replan
from metro_ray.cluster.display import live_display
from metro_ray.cluster.failures import (
    find_metro_error,
    is_lost_peer,
    patience_with_peers,
    root_cause,
)
from metro_ray.cluster.growth import Growth, growth_watched
from metro_ray.cluster.preflight import CheckedRun, check_run
from metro_ray.cluster.resources import ResourcePlan
from metro_ray.cluster.run_folder import ray_records, restore_lost_folder
from metro_ray.cluster.shared_storage import require_shared_storage
from metro_ray.cluster.stop import StopFile, stop_file_on_sigterm
from metro_ray.config.load import from_dict, to_dict
from metro_ray.errors import ResourceError, RunStopped, TrainingError

if TYPE_CHECKING:
    from ray.train import Result, UserCallback, WorkerGroupError
    from ray.train.torch import TorchTrainer

    from metro_ray.config.schema import TrainConfig

_LOG = logging.getLogger(__name__)
_STOP_FILE = "stop"
_WORKER_ENVIRONMENT = {"RAY_CHDIR_TO_TRIAL_DIR": "0"}
_SHOWN = (
    ("PA-MPJPE", "pa_mpjpe_mm"),
    ("MPJPE", "mpjpe_mm"),
    ("MPVE", "mpve_mm"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """What a run came to."""

    run_dir: Path
    result: dict[str, Any]
    """What `result.json` holds."""

    def text(self) -> str:
        """A few lines for people: metrics beside the mean-mesh baseline, and where to look."""
        lines = []
        for title, name in _SHOWN:
            value, baseline = self.result.get(f"val/{name}"), self.result.get(f"baseline/{name}")
            if value is not None:
                beside = "" if baseline is None else f"   (mean mesh {baseline:.1f} mm)"
                lines.append(f"{title:9s} {value:7.1f} mm{beside}")
        places = {"result": self.run_dir / "result.json"}
        places |= {name: self.result.get(name) for name in ("checkpoint", "report", "gallery")}
        lines += [f"{name:11s} {place}" for name, place in places.items() if place is not None]
        return "\n".join(lines)


def run_train(config: TrainConfig) -> RunSummary:
    """Train, or with `eval.only` evaluate, on the cluster of `RAY_ADDRESS` or on this machine.

    Raises:
        MetroRayError: Settings, files, resources or the training itself; see the subclasses.
    """
    run = check_run(config)
    with cluster(run.config) as plan:
        _LOG.info("%s", plan.text)
        require_shared_storage(run.config, plan)
        if run.config.run.overwrite and run.config.run.upload_to is not None:
            from metro_ray.training.upload import RunUpload

            RunUpload(run.config.run.upload_to).forget()
        returned = fit_run(run, plan)
    return RunSummary(run_dir=Path(run.config.run.output_dir), result=returned)


def fit_run(
    run: CheckedRun, plan: ResourcePlan, callbacks: Sequence[UserCallback] = ()
) -> dict[str, Any]:
    """Run the trainer; start it again from its last checkpoint when ranks were lost.

    Args:
        run: Checked.
        plan: The share of the attached cluster.
        callbacks: Of Ray Train; they see every report.

    Returns:
        What `result.json` holds.

    Raises:
        MetroRayError: As `run_train`.
    """
    from ray.train import ControllerError, WorkerGroupError

    limit, elastic = run.config.run.max_failures, run.config.scaling.min_train_workers is not None
    with (
        ray_records(Path(run.config.run.output_dir)) as storage,
        stop_file_on_sigterm(storage / _STOP_FILE) as stop,
        live_display(Path(run.config.run.output_dir)),
    ):
        failures, why = 0, None
        while True:
            try:
                with growth_watched(run.config, plan, stop) as growth:
                    return _returned(_make_trainer(run, plan, storage, callbacks, why).fit())
            except WorkerGroupError as error:
                if _stopped_to_grow(error, growth, stop):
                    why = growth.reason
                elif failures == limit or not _lost_ranks(error):
                    raise _explained(error) from error
                else:
                    failures += 1
                    lost = ", ".join(str(rank) for rank in sorted(error.worker_failures))
                    why = f"rank(s) {lost} were lost ({failures} of {limit} failures)"
                    _LOG.warning("%s; going on from the last checkpoint", why)
            except ControllerError as error:
                if failures == limit or not elastic:
                    raise _explained(error) from error
                failures += 1
                why = str(_explained(error))
                _LOG.warning("%s; trying with the machines that are left", why)
            except SystemExit as stopped:  # Ray Train's answer to Ctrl-C
                raise KeyboardInterrupt from stopped
            restore_lost_folder(run.config, storage)
            stop.withdraw()  # also where ranks were lost while they were asked to stop for growth
            if elastic:
                plan = replan(run.config)
                _LOG.info("%s", plan.text)


def _stopped_to_grow(error: WorkerGroupError, growth: Growth, stop: StopFile) -> bool:
    """Whether the ranks ended because there is place for more of them, not for SIGTERM."""
    if growth.found is None or stop.by_signal:
        return False
    found = [find_metro_error(failure) for failure in error.worker_failures.values()]
    return any(isinstance(one, RunStopped) for one in found)


def _make_trainer(
    run: CheckedRun,
    plan: ResourcePlan,
    storage: Path,
    callbacks: Sequence[UserCallback],
    start_reason: str | None,
) -> TorchTrainer:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = {"CPU": plan.cpus_per_worker}
    if plan.use_gpu:
        resources["GPU"] = plan.gpus_per_worker
    return TorchTrainer(
        train_rank,
        train_loop_config={
            "config": to_dict(run.config),
            "plan": asdict(plan),
            "mesh": run.mesh,
            "mesh_reason": run.mesh_reason,
            "start_reason": start_reason,
            "stale_checkpoint": run.stale_checkpoint,
            "stop_file": str(storage / _STOP_FILE),
            "folder": str(Path.cwd()),
        },
        torch_config=TorchConfig(backend="nccl" if plan.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=plan.train_workers, use_gpu=plan.use_gpu, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=storage.name,
            storage_path=str(storage.parent),
            callbacks=list(callbacks),
            failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            logging_config=ray.train.LoggingConfig(log_level="CRITICAL"),
            worker_runtime_env={"env_vars": _WORKER_ENVIRONMENT},
        ),
    )


def train_rank(settings: dict[str, Any]) -> dict[str, Any] | None:
    """What each Ray Train worker runs; rank 0 returns what `result.json` holds."""
    from metro_ray.bodies import load_body
    from metro_ray.cluster.data import RayDataSource
    from metro_ray.cluster.worker import RayWorker
    from metro_ray.training.loop import fit

    if Path(settings["folder"]).is_dir():
        os.chdir(settings["folder"])  # relative names mean what they mean on the driver
    config, plan = from_dict(settings["config"]), ResourcePlan(**settings["plan"])
    run_dir = Path(config.run.output_dir)
    worker = RayWorker(
        run_dir,
        stale=settings["stale_checkpoint"],
        stop_file=Path(settings["stop_file"]),
        use_gpu=plan.use_gpu,
        runs_per_machine=plan.runs_per_machine,
    )
    body = load_body(settings["mesh"], config.assets.root)
    data = RayDataSource(
        config,
        body.spec,
        plan,
        rank=worker.rank,
        world_size=worker.world_size,
        gather=worker.gather,
        pin_memory=plan.use_gpu,
    )
    try:
        with patience_with_peers():
            reasons = {name: settings[name] for name in ("mesh_reason", "start_reason")}
            done = fit(config, worker, data, body=body, **reasons)
    finally:
        data.close()
    return done.result


def _returned(result: Result) -> dict[str, Any]:
    if not isinstance(result.return_value, dict):
        raise TrainingError("the run ended without a result; its log is log.txt in its folder")
    return result.return_value


def _lost_ranks(error: WorkerGroupError) -> bool:
    """Whether processes or nodes died, as opposed to an exception in our or the user's code.

    Of a lost rank the others often know first: a collective fails.
    """
    from ray.exceptions import RayActorError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    lost = (RayActorError, WorkerHealthCheckFailedError)
    failures = error.worker_failures.values()
    if any(find_metro_error(failure) for failure in failures):
        return False
    return all(isinstance(failure, lost) or is_lost_peer(failure) for failure in failures)


def _explained(error: Exception) -> Exception:
    """Our own error of a rank, else one line that names the first failure."""
    failures = getattr(error, "worker_failures", None)
    if failures is None:
        cause = root_cause(getattr(error, "controller_failure", error))
        return ResourceError(f"the ranks could not be started: {cause}")
    for failure in failures.values():
        if (ours := find_metro_error(failure)) is not None:
            return ours
    _LOG.error("%s", error)
    rank, failure = min(failures.items())
    cause = root_cause(failure)
    return TrainingError(f"rank {rank} failed with {type(cause).__name__}: {cause}")
