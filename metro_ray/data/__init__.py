"""The data room: METRO's TSV files in, `Sample`s and `Batch`es out. Imports no torch by itself."""

from metro_ray.data.augment import AugmentParams, AugmentSettings
from metro_ray.data.bad_rows import BadRow, BadRows
from metro_ray.data.dataset import TsvDataset, open_dataset
from metro_ray.data.loader import LocalLoader
from metro_ray.data.parquet import ParquetDataset
from metro_ray.data.parquet_writer import ParquetDatasetWriter
from metro_ray.data.plan import EpochPlan
from metro_ray.data.rows import Row, RowDataset
from metro_ray.data.sample import Batch, Sample, batch_from_arrays, collate, stack_samples
from metro_ray.data.transform import LoadedRow, SampleTransform, load_row
from metro_ray.data.tsv import TsvFile, build_lineidx
from metro_ray.data.writer import TsvDatasetWriter, concatenate

__all__ = [
    "AugmentParams",
    "AugmentSettings",
    "BadRow",
    "BadRows",
    "Batch",
    "EpochPlan",
    "LoadedRow",
    "LocalLoader",
    "ParquetDataset",
    "ParquetDatasetWriter",
    "Row",
    "RowDataset",
    "Sample",
    "SampleTransform",
    "TsvDataset",
    "TsvDatasetWriter",
    "TsvFile",
    "batch_from_arrays",
    "build_lineidx",
    "collate",
    "concatenate",
    "load_row",
    "open_dataset",
    "stack_samples",
]
