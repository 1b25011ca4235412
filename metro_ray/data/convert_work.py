"""What a conversion has done so far, kept beside its target so that it can be taken up again."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metro_ray.data.bad_rows import BadRow, BadRows
from metro_ray.data.bake import BakeSettings
from metro_ray.data.parquet import MANIFEST, is_parquet
from metro_ray.data.rows import RowDataset
from metro_ray.data.storage import exists, is_url, read_bytes
from metro_ray.errors import DataError

_LOG = logging.getLogger(__name__)


@dataclass
class ConvertWork:
    """The conversion's `NAME.convert.json`: what it is, and which parts are done."""

    path: Path
    plan: dict[str, Any]
    done: dict[int, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def claim(
        cls, dataset: RowDataset, target: Path, rows_per_part: int, bake: BakeSettings | None
    ) -> ConvertWork:
        """Start a conversion, or take up the one that was stopped."""
        if not is_parquet(target) and target.suffix not in (".yaml", ".yml"):
            raise DataError(
                f"{target}: expected NAME.parquet (Parquet) or NAME.yaml (METRO's TSV files)"
            )
        if is_url(target) and not is_parquet(target):
            raise DataError(
                f"{target}: TSV files are written to local disks only; convert to NAME.parquet, "
                "or write locally and copy the files"
            )
        plan = {
            "source": dataset.name,
            "rows": len(dataset),
            "files": dataset.stamp(),
            "rows_per_part": rows_per_part,
            "bake": None if bake is None else list(bake),
        }
        work = cls(target.parent / f"{target.stem}.convert.json", plan)
        if exists(work.path):
            work._resume()
        elif exists(target / MANIFEST if is_parquet(target) else target):
            raise DataError(f"{target} exists already; choose another name or remove it")
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            work._save()
        return work

    def _resume(self) -> None:
        try:
            found = json.loads(read_bytes(self.path))
            plan, done = found["plan"], found["done"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path} cannot be read ({error}); remove it") from error
        if plan != self.plan:
            differing = [
                f"{key}: {plan.get(key)!r} there"
                for key in self.plan
                if plan.get(key) != self.plan[key]
            ]
            raise DataError(
                f"{self.path} belongs to another conversion that was stopped "
                f"({'; '.join(differing)}); finish that one, remove it, or choose another name"
            )
        self.done = {int(index): part for index, part in done.items()}
        _LOG.info("%s: going on, %d parts are done", self.path, len(self.done))

    def finished(self, index: int, num_rows: int, bad: list[BadRow]) -> None:
        """Note a part."""
        self.done[index] = {"rows": num_rows, "bad": [list(row) for row in bad]}
        self._save()

    def bad_rows(self, limit: int, target: Path) -> BadRows:
        """All rows that were left out.

        Raises:
            DataError: more than `limit`.
        """
        bad = BadRows(limit, name=str(target), setting="--max-bad-rows")
        for index in sorted(self.done):
            bad.extend(BadRow(*row) for row in self.done[index]["bad"])
        return bad

    def _save(self) -> None:
        text = json.dumps({"plan": self.plan, "done": self.done}, indent=1).encode()
        if is_url(self.path):
            self.path.write_bytes(text)
            return
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_bytes(text)
        partial.replace(self.path)
