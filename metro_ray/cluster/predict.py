"""run_predict: a checkpoint and a data set become a prediction file, on the whole cluster.

Hands: the zip that FreiHAND's leaderboard takes, as METRO's `run_hand_inference.py` names it.
Bodies: an .npz of the same content. The job may be stopped at any time; started again, it goes on.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metro_ray.bodies.spec import get_spec
from metro_ray.cluster.connect import cluster
from metro_ray.cluster.run_folder import require_writable
from metro_ray.cluster.shared_storage import require_shared_storage
from metro_ray.config.load import to_dict
from metro_ray.data.progress import show_progress
from metro_ray.errors import ConfigError, DataError
from metro_ray.evaluation import metro_line
from metro_ray.evaluation.from_checkpoint import Ready, config_of_checkpoint
from metro_ray.evaluation.prediction_files import PredictionWork, request_of
from metro_ray.evaluation.protocols import protocol_of
from metro_ray.evaluation.tta import (
    View,
    ViewPlan,
    fused_file_name,
    fused_views,
    single_view,
    view_file_name,
)

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.cluster.resources import ResourcePlan
    from metro_ray.config.schema import Kind, TrainConfig
    from metro_ray.data.bad_rows import BadRow
    from metro_ray.data.rows import RowDataset
    from metro_ray.inference.prediction_report import Scored

_LOG = logging.getLogger(__name__)
METRO_EPOCH = 200
"""METRO's files do not tell their epoch; its own script says 200 for all."""
_DEFAULT_DATA = {"hand": "freihand/test.yaml"}
"""What METRO's command lines for predictions leave unsaid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictSummary:
    """What a prediction job came to."""

    path: Path
    num_rows: int
    num_views: int
    num_resumed: int
    """Rows that an earlier start of the same job had finished."""
    seconds: float
    scored: Scored | None
    """Where the data set is labelled."""
    config: TrainConfig

    def text(self) -> str:
        """A few lines for people."""
        resumed = f" ({self.num_resumed} of them by an earlier start)" if self.num_resumed else ""
        views = "1 view" if self.num_views == 1 else f"{self.num_views} views fused"
        lines = [
            f"prediction  {self.path}",
            f"rows        {self.num_rows}{resumed}, {views}, {self.seconds:.0f} s",
        ]
        if self.scored is not None:
            lines += [
                metro_line(0, self.scored.result.metrics),
                protocol_of(self.config, get_spec(self.config.model.mesh)).line,
                f"report      {self.scored.page}",
                f"per row     {self.scored.results_file}",
            ]
        return "\n".join(lines)


class _Job(NamedTuple):
    """A prediction that may start."""

    config: TrainConfig
    """Its mesh, checkpoint and folders as they are: nothing is `auto` or relative."""
    body: BodyModel
    dataset: RowDataset
    views: ViewPlan
    output: Path
    work: PredictionWork
    epoch: int | None
    """Of the checkpoint, where it is known."""


def run_predict(kind: Kind, given: Mapping[str, Any]) -> PredictSummary:
    """Predict every row of `data.val_yaml` with the network of `run.resume_checkpoint`.

    Args:
        kind: "body" or "hand".
        given: Settings by dotted key; those of the network are the checkpoint's.

    Raises:
        ConfigError: Settings that contradict each other, or an output that is there already.
        CheckpointError, AssetNotFoundError, DataError: What is read.
        ResourceError: The cluster cannot run this.
    """
    started = time.monotonic()
    job = _check(kind, given)
    missing = job.work.missing()
    resumed = job.work.num_rows - len(missing)
    if resumed:
        _LOG.warning("going on with %s: %d rows are there", job.work.folder, resumed)
    if len(missing):
        with cluster(job.config) as plan:
            _LOG.info("%s", plan.text)
            require_shared_storage(job.config, plan, shares_output=False)
            _predict_missing(job, plan)
    write = job.work.write_hands if kind == "hand" else job.work.write_arrays
    write(job.output)
    scored = _score(job)
    job.work.remove()
    return PredictSummary(
        path=job.output,
        num_rows=job.work.num_rows,
        num_views=job.views.num_views,
        num_resumed=resumed,
        seconds=time.monotonic() - started,
        scored=scored,
        config=job.config,
    )


def _score(job: _Job) -> Scored | None:
    """Measure the predictions where the data set is labelled and is looked at upright."""
    from metro_ray.inference.prediction_report import score_predictions

    config = job.config
    if config.eval.rotation_deg:
        _LOG.info("no figures: predictions of a turned view are turned, the labels are not")
        return None
    one_view = replace(config.eval, multiscale=not config.eval.multiscale)
    counterpart = output_name(replace(config, eval=one_view), job.epoch)
    scored = score_predictions(
        job.work, job.dataset, job.body, config, job.output, job.output.with_name(counterpart)
    )
    if scored is None:
        _LOG.info("no figures: %s has no labelled row", job.dataset.name)
    return scored


def plan_views(config: TrainConfig) -> ViewPlan:
    """The views that the settings ask for.

    Raises:
        ConfigError: Both a single view and all views are asked for.
    """
    single = View(config.eval.scale_factor, config.eval.rotation_deg)
    if not config.eval.multiscale:
        return single_view(single)
    if single != (1.0, 0.0):
        raise ConfigError(
            f"--multiscale_inference fuses the views of views.scales and views.rotations_deg; --sc "
            f"{single.scale:g} --rot {single.rotation_deg:g} asks for a single one: leave out "
            "one or the other"
        )
    views = config.views
    each = [View(scale, turn) for scale in views.scales for turn in views.rotations_deg]
    return fused_views(each, flip=views.flip)


def output_name(config: TrainConfig, epoch: int | None) -> str:
    """METRO's name of the file, with the checkpoint's epoch; an .npz for bodies."""
    number = METRO_EPOCH if epoch is None else epoch
    view = View(config.eval.scale_factor, config.eval.rotation_deg)
    name = fused_file_name(number) if config.eval.multiscale else view_file_name(view, number)
    return name if config.kind == "hand" else str(Path(name).with_suffix(".npz"))


def _check(kind: Kind, given: Mapping[str, Any]) -> _Job:
    """Open, without a cluster, all that the job will read."""
    from metro_ray.bodies import load_body
    from metro_ray.bodies.assets import assets_folder
    from metro_ray.evaluation.tta_mirror import find_mirror
    from metro_ray.training.data_source import open_split

    if "data.val_yaml" not in given:
        if kind not in _DEFAULT_DATA:
            raise ConfigError("there is nothing to predict: give --val_yaml a data set")
        given = {**given, "data.val_yaml": _DEFAULT_DATA[kind]}
    ready = config_of_checkpoint(kind, given)
    config = _absolute(ready.config, assets_folder(ready.config.assets.root).absolute())
    views = plan_views(config)
    body = load_body(config.model.mesh, config.assets.root)
    if config.eval.multiscale and config.views.flip:
        find_mirror(body)
    dataset = open_split(config, body.spec, "val")
    assert dataset is not None
    _LOG.info("%s", dataset.describe())
    output_dir = Path(config.run.output_dir)
    require_writable(output_dir)
    output = output_dir / output_name(config, ready.facts.epoch)
    if output.exists() and not config.run.overwrite:
        raise ConfigError(
            f"{output} is there already: --run.overwrite true replaces it, or choose another "
            "--output_dir"
        )
    work = PredictionWork(output_dir, _request(ready, dataset, views))
    return _Job(config, body, dataset, views, output, work, ready.facts.epoch)


def _absolute(config: TrainConfig, assets: Path) -> TrainConfig:
    """Actors may have another current folder."""
    output_dir = Path(config.run.output_dir).absolute()
    return replace(
        config,
        assets=replace(config.assets, root=str(assets)),
        run=replace(config.run, output_dir=str(output_dir)),
    )


def _request(ready: Ready, dataset: RowDataset, views: ViewPlan) -> dict[str, Any]:
    config = ready.config
    model = asdict(config.model)
    settings = {
        "mesh": config.model.mesh,
        "num_attention_heads": model["num_attention_heads"],
        "shots": [[*shot.view, shot.is_mirrored] for shot in views.shots],
        "fused": views.is_fused,
        "counts_reference": views.counts_reference,
        "crop": config.data.crop,
        "precision": config.optim.precision,
        "keep_root": config.eval.aml,
    }
    return request_of(ready.facts.weights, dataset, settings)


def _predict_missing(job: _Job, plan: ResourcePlan) -> None:
    """Predict what is missing and keep it.

    Raises:
        DataError: A row cannot be read.
    """
    from metro_ray.cluster.predict_blocks import ViewReader, predict_rows
    from metro_ray.evaluation.tta_pass import ViewLoader

    config, missing = job.config, job.work.missing()
    load = ViewLoader(
        job.body.spec, job.views, crop_mode=config.data.crop, image_size=config.data.image_size
    )
    actor = {
        "config": to_dict(config),
        "views": job.views,
        "use_gpu": plan.use_gpu,
        "actors_per_node": math.ceil(plan.train_workers / _num_nodes()),
    }
    blocks = predict_rows(
        missing,
        ViewReader(job.dataset, load),
        actor,
        plan,
        block_rows=config.data.block_rows,
        start_timeout_s=config.scaling.start_timeout_s,
    )

    def keep() -> Iterator[int]:
        for predicted in blocks:
            if predicted.problems:
                raise _cannot_be_whole(job, predicted.problems)
            job.work.add(predicted.meshes)
            yield len(predicted.meshes.rows)

    done = job.work.num_rows - len(missing)
    with closing(blocks):  # an error gives the cluster back at once
        show_progress(keep(), job.work.num_rows, done=done, what="rows predicted")


def _cannot_be_whole(job: _Job, problems: Sequence[BadRow]) -> DataError:
    listed = "\n".join(f"  row {bad.row_id} ({bad.key}): {bad.reason}" for bad in problems)
    return DataError(
        f"{job.output.name} must hold every row of {job.dataset.name}, but these cannot be read:\n"
        f"{listed}\n`metro-ray data check {job.dataset.name}` finds all there are; repair them, "
        "or leave them out with a linelist"
    )


def _num_nodes() -> int:
    import ray

    nodes = (node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0)
    return max(1, sum(1 for _ in nodes))
