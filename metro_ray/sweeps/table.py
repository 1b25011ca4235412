"""The trials of a sweep as a table: `trials.csv` and `trials.parquet`."""

from __future__ import annotations

import csv
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from metro_ray.sweeps.ledger import Ledger, SweepRecord
from metro_ray.training.files import write_bytes

TABLE = "trials"


def rows(ledger: Ledger, record: SweepRecord) -> list[dict[str, Any]]:
    """One row a trial, by number; numbers that do not exist are None."""
    keys = [dimension.key for dimension in record.space.dimensions]
    table = []
    for number in sorted(ledger.trials):
        trial, history = ledger.trials[number], ledger.history(number)
        score = ledger.score(number)
        speeds = [epoch.images_per_second for epoch in history if epoch.images_per_second]
        table.append(
            {
                "trial": number,
                "state": trial.state,
                **{key: _cell(trial.values.get(key)) for key in keys},
                "pa_mpjpe_mm": None if score is None else score.pa_mpjpe_mm,
                "best_epoch": None if score is None else score.epoch,
                "epochs": history[-1].epoch if history else 0,
                "seconds": history[-1].seconds if history else None,
                "wall_seconds": trial.wall_seconds if trial.has_ended else None,
                "images_per_second": sum(speeds) / len(speeds) if speeds else None,
                "parameters": trial.parameters,
                "starts": trial.starts,
                "error": trial.error,
            }
        )
    return table


def write_table(ledger: Ledger, record: SweepRecord) -> None:
    """Write both files; lists stand as text in them."""
    table = rows(ledger, record)
    if not table:
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_bytes(ledger.folder / f"{TABLE}.csv", text.getvalue().encode())
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table), sink)
    write_bytes(ledger.folder / f"{TABLE}.parquet", sink.getvalue())


def _cell(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else value
