"""Where the loop's batches come from: one protocol, and its implementation without Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from metro_ray.data.augment import AugmentSettings
from metro_ray.data.bad_rows import BadRows
from metro_ray.data.dataset import open_dataset
from metro_ray.data.labels import parse_label
from metro_ray.data.loader import LocalLoader
from metro_ray.data.plan import EpochPlan
from metro_ray.data.rows import Row, RowDataset
from metro_ray.data.sample import Sample, blank_sample, collate
from metro_ray.data.transform import SampleTransform
from metro_ray.errors import DataError

if TYPE_CHECKING:
    from metro_ray.bodies.spec import MeshSpec
    from metro_ray.config.schema import TrainConfig
    from metro_ray.data.sample import Batch


class DataSource(Protocol):
    """What one rank trains and validates on."""

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names that `Batch.source` counts in training; empty without a training set."""
        ...

    @property
    def train_rows(self) -> str:
        """`EpochPlan.rows_text` of training; empty without a training set."""
        ...

    def describe(self) -> list[str]:
        """A line for each data set: what it is, and what an epoch takes of it."""
        ...

    def num_train_batches(self, start_row: int = 0) -> int:
        """Batches of an epoch behind its first `start_row` rows; 0 without a training set."""
        ...

    def train_batches(self, epoch: int, start_row: int = 0) -> Iterator[Batch]:
        """Augmented batches of an epoch in its order, behind the first `start_row` rows of it.

        Rows are those of all ranks together, so that another number of ranks can go on.
        """
        ...

    def eval_batches(self) -> Iterator[Batch]:
        """Validation batches, every row once over all ranks; none without a validation set."""
        ...

    def bad_rows(self) -> dict[str, Any]:
        """Rows that were skipped, as `list_bad_rows` has them."""
        ...


class LocalDataSource:
    """Reads the run's data sets in this process, with `data.loader_workers` threads.

    Raises:
        DataError: A data set is missing or broken.
    """

    def __init__(
        self, config: TrainConfig, spec: MeshSpec, *, rank: int = 0, world_size: int = 1
    ) -> None:
        self._config = config
        self._spec = spec
        self._rank = rank
        self._world_size = world_size
        self._train = None if config.eval.only else open_split(config, spec, "train")
        self._val = open_split(config, spec, "val")
        self._bad = {
            name: BadRows(config.data.max_bad_rows, name=f"{name} set") for name in ("train", "val")
        }

    @property
    def source_names(self) -> tuple[str, ...]:
        return () if self._train is None else self._train.source_names

    @property
    def train_rows(self) -> str:
        if self._train is None:
            return ""
        return train_plan(self._config, self._train, self._world_size, 0, 0).rows_text

    def describe(self) -> list[str]:
        return describe_splits({"train": self._train, "val": self._val})

    def num_train_batches(self, start_row: int = 0) -> int:
        if self._train is None:
            return 0
        return train_plan(self._config, self._train, self._world_size, 0, start_row).num_batches

    def train_batches(self, epoch: int, start_row: int = 0) -> Iterator[Batch]:
        if self._train is None:
            return iter(())
        plan = train_plan(self._config, self._train, self._world_size, epoch, start_row)
        return self._batches(self._train, "train", plan)

    def eval_batches(self) -> Iterator[Batch]:
        if self._val is None:
            return iter(())
        return self._batches(self._val, "val", eval_plan(self._config, self._val, self._world_size))

    def bad_rows(self) -> dict[str, Any]:
        return list_bad_rows(self._bad)

    def _batches(self, dataset: RowDataset, split: str, plan: EpochPlan) -> Iterator[Batch]:
        loader = LocalLoader(
            dataset,
            make_transform(self._config, self._spec, train=split == "train"),
            plan,
            bad_rows=self._bad[split],
            rank=self._rank,
            num_threads=self._config.data.loader_workers,
            prefetch_batches=self._config.data.prefetch_batches,
        )
        return iter(loader)


def list_bad_rows(bad: Mapping[str, BadRows]) -> dict[str, Any]:
    """Broken rows of the splits ("train", "val") as plain values: how many, and which.

    Returns:
        `count`, and in `rows` of each its `split`, number (`row`), `key` and `reason`.
    """
    rows = [
        {"split": split, "row": row.row_id, "key": row.key, "reason": row.reason}
        for split, split_rows in bad.items()
        for row in split_rows.rows()
    ]
    return {"count": len(rows), "rows": rows}


def merge_bad_rows(parts: Iterable[Iterable[dict[str, Any]]]) -> dict[str, Any]:
    """The `rows` of several `list_bad_rows` (of ranks, of parts of a run) as one; each once."""
    found = {(row["split"], row["row"]): row for part in parts for row in part}
    return {"count": len(found), "rows": [found[place] for place in sorted(found)]}


def open_split(config: TrainConfig, spec: MeshSpec, split: str) -> RowDataset | None:
    """Open the training ("train") or validation ("val") set; None where the config names none.

    Raises:
        DataError: The data set is missing or broken.
    """
    yaml_path = config.data.train_yaml if split == "train" else config.data.val_yaml
    return None if yaml_path is None else open_dataset(yaml_path, spec, root=config.data.root)


def describe_splits(splits: Mapping[str, RowDataset | None]) -> list[str]:
    """Lines for the log: what is trained and what is validated on."""
    return [f"{name}: {data.describe()}" for name, data in splits.items() if data is not None]


def train_plan(
    config: TrainConfig, dataset: RowDataset, world_size: int, epoch: int, start_row: int
) -> EpochPlan:
    """The rows of an epoch of training behind its first `start_row`, a mixture by its weights."""
    return EpochPlan(
        num_rows=len(dataset),
        batch_size=config.optim.per_gpu_batch_size,
        world_size=world_size,
        seed=config.optim.seed,
        epoch=epoch,
        drop_tail=config.data.drop_tail,
        shares=dataset.shares,
        start_row=start_row,
    )


def eval_plan(config: TrainConfig, dataset: RowDataset, world_size: int) -> EpochPlan:
    """Every row once in the order of the data set, whatever the weights of a mixture."""
    return EpochPlan(
        num_rows=len(dataset),
        batch_size=config.eval.per_gpu_batch_size,
        world_size=world_size,
        shuffle=False,
    )


def make_transform(config: TrainConfig, spec: MeshSpec, *, train: bool) -> SampleTransform:
    """Unpack the settings of crop, augmentation and masking into a `SampleTransform`."""
    mask_fraction = config.model.mask_fraction
    return SampleTransform(
        spec,
        train=train,
        seed=config.optim.seed,
        image_size=config.data.image_size,
        crop_mode=config.data.crop,
        augment=AugmentSettings(
            flip_probability=config.augment.flip_probability,
            pixel_gain=config.augment.pixel_gain,
            rotation_deg=config.augment.rotation_deg,
            rotation_probability=config.augment.rotation_probability,
            scale=config.augment.scale,
            mask_fraction=spec.mask_fraction if mask_fraction is None else mask_fraction,
        ),
        rotation_deg=config.eval.rotation_deg,
        scale_factor=config.eval.scale_factor,
    )


def label_batches(
    dataset: RowDataset, spec: MeshSpec, *, batch_size: int = 64, max_rows: int | None = None
) -> Iterator[Batch]:
    """Labels without augmentation and without looking at a picture: images are one black pixel.

    Args:
        dataset: Where rows are read.
        spec: What the labels describe.
        batch_size: Rows of a batch.
        max_rows: Take only about this many rows, evenly spread over the data set. Rows whose
            label cannot be read are left out (the loader reports them).
    """
    count = len(dataset) if max_rows is None else min(max_rows, len(dataset))
    samples: list[Sample] = []
    for row_id in np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist():
        try:
            samples.append(label_sample(dataset.row(row_id), row_id, spec))
        except DataError:
            continue
        if len(samples) == batch_size:
            yield collate(samples)
            samples = []
    if samples:
        yield collate(samples)


def label_sample(row: Row, row_id: int, spec: MeshSpec) -> Sample:
    """The labels of a stored row, not augmented; the image is one black pixel.

    Raises:
        DataError: The label is broken.
    """
    label = parse_label(row.label, spec)
    joints = label.joints_3d.astype(np.float32)
    joints[:, :3] -= joints[spec.root_label_joint, :3]
    return blank_sample(spec, row_id, row.source, image_size=1)._replace(
        joints_3d=joints,
        pose=label.pose.astype(np.float32),
        betas=label.betas.astype(np.float32),
        has_mesh=np.bool_(label.has_mesh),
        has_joints_3d=np.bool_(label.has_joints_3d),
        valid=np.bool_(True),
    )
