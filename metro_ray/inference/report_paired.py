"""Test-time augmentation off and on side by side, from two files of per-sample results."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from metro_ray.evaluation.figures import TITLES, shown
from metro_ray.evaluation.paired import PairedDifference, pair_rows, paired_differences
from metro_ray.evaluation.per_sample import PerSample
from metro_ray.inference.charts import curves
from metro_ray.inference.page import table


def augmentation_section(plain: PerSample, augmented: PerSample) -> str:
    """A part of a page: figures of both, differences row by row, PCK curves over each other.

    Raises:
        DataError: they have no row in common.
    """
    names = ("one view", "augmented")
    num_rows = len(pair_rows(plain, augmented).keys)
    differences = difference_table(paired_differences(plain, augmented), names)
    shares = []
    for sample in (plain, augmented):
        means = sample.figures.means
        shares.append([shown(name, means[name]) for name in ("pck", "auc", "pa_pck", "pa_auc")])
    lines = [
        [TITLES[name][0], one, two]
        for name, one, two in zip(("pck", "auc", "pa_pck", "pa_auc"), *shares, strict=True)
    ]
    rule = plain.figures.rule
    chart = curves(
        "Joints within a distance after Procrustes (PA-PCK)",
        "mm",
        rule.thresholds_mm,
        {names[0]: plain.figures.pa_pck, names[1]: augmented.figures.pa_pck},
    )
    return (
        f"<section><h2>Test-time augmentation</h2><p>{num_rows} rows with one view and with "
        f"several views fused: {escape(augmented.path.name)}.</p>{differences}"
        f"{table(['figure', *names], lines, caption=rule.text)}"
        f'<div class="charts">{chart}</div></section>'
    )


def difference_table(
    differences: Sequence[PairedDifference], names: tuple[str, str], caption: str = ""
) -> str:
    """Figures of two evaluations with the paired difference and its interval."""
    head = ["figure", *names, "difference", "95 % interval", "rows better", "rows"]
    lines = [
        [
            TITLES[one.name][0],
            f"{one.a_mm:.2f}",
            f"{one.b_mm:.2f}",
            f"{one.mean_mm:+.2f}",
            f"{one.low_mm:+.2f} to {one.high_mm:+.2f}",
            f"{100 * one.better_share:.0f} %",
            str(one.num_rows),
        ]
        for one in differences
    ]
    text = caption or f"{names[1]} minus {names[0]}, millimetres; below zero {names[1]} is better"
    clear = [number for number, one in enumerate(differences) if one.is_clear]
    return table(
        head, lines, caption=f"{text}. Stressed: the interval leaves zero out", marked=clear
    )
