"""Two evaluations beside each other: tables of paired differences, PCK curves over each other."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from metro_ray.evaluation.figures import TITLES, shown
from metro_ray.evaluation.paired import PairedDifference, pair_rows, paired_differences
from metro_ray.evaluation.per_sample import PerSample
from metro_ray.inference.charts import curves
from metro_ray.inference.page import table

_SHARES = ("pck", "auc", "pa_pck", "pa_auc")


def augmentation_section(plain: PerSample, augmented: PerSample) -> str:
    """A part of a page: one view beside several views fused.

    Raises:
        DataError: they have no row in common.
    """
    num_rows = len(pair_rows(plain, augmented).keys)
    names = ("one view", "augmented")
    differences = difference_table(paired_differences(plain, augmented), names)
    return (
        f"<section><h2>Test-time augmentation</h2><p>{num_rows} rows with one view "
        f"({escape(plain.path.name)}) and with several views fused "
        f"({escape(augmented.path.name)}).</p>{differences}{pck_parts(plain, augmented, names)}"
        "</section>"
    )


def pck_parts(a: PerSample, b: PerSample, names: tuple[str, str]) -> str:
    """PCK and AUC of both as a table, and their aligned curves in one chart."""
    shares = [[shown(name, sample.figures.means[name]) for name in _SHARES] for sample in (a, b)]
    lines = [[TITLES[name][0], one, two] for name, one, two in zip(_SHARES, *shares, strict=True)]
    rule = a.figures.rule
    chart = curves(
        "Joints within a distance, Procrustes-aligned",
        "mm",
        rule.thresholds_mm,
        {names[0]: a.figures.pa_pck, names[1]: b.figures.pa_pck},
    )
    caption = f"All rows of each. {rule.text}"
    return table(["figure", *names], lines, caption=caption) + (
        f'<div class="charts">{chart}</div>' if chart else ""
    )


def title_of(name: str) -> str:
    """An error or a joint as people read it."""
    return TITLES[name][0] if name in TITLES else name.replace("_", " ")


def difference_table(
    differences: Sequence[PairedDifference], names: tuple[str, str], caption: str = ""
) -> str:
    """Figures of two evaluations with the paired difference and its interval."""
    head = ["figure", *names, "difference", "95 % interval", "rows better", "worse", "of"]
    lines = [
        [
            title_of(one.name),
            f"{one.a_mm:.2f}",
            f"{one.b_mm:.2f}",
            f"{one.mean_mm:+.2f}",
            f"{one.low_mm:+.2f} to {one.high_mm:+.2f}",
            str(one.num_better),
            str(one.num_worse),
            str(one.num_rows),
        ]
        for one in differences
    ]
    text = caption or f"{names[1]} minus {names[0]}, millimetres; below zero {names[1]} is better"
    clear = [number for number, one in enumerate(differences) if one.is_clear]
    return table(
        head, lines, caption=f"{text}. Stressed: the interval leaves zero out", marked=clear
    )
