"""Figures that others published under the protocols that we evaluate, with where they stand.

Only what is comparable by protocol; even so methods differ in training data and boxes. `crops` says
whether a method was evaluated on METRO's own crops (the same TSV files) or on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

_METRO_DOCS = "microsoft/MeshTransformer, docs/EXP.md"
_GRAPHORMER_DOCS = "microsoft/MeshGraphormer, docs/EXP.md"
_FASTMETRO_TABLE = "FastMETRO, results table of its repository"
_SAM_TABLES = "as quoted in the tables of SAM 3D Body"
_README = "README of its repository"


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """A method's figures under a protocol; millimetres, F-scores 0 to 1."""

    method: str
    protocol: str
    figures: Mapping[str, float]
    source: str
    crops: Literal["METRO's", "own"] = "own"
    note: str = field(default="")


def _row(
    protocol: str,
    method: str,
    source: str,
    crops: Literal["METRO's", "own"] = "own",
    note: str = "",
    **figures: float,
) -> PublishedRow:
    return PublishedRow(
        method=method,
        protocol=protocol,
        figures=MappingProxyType(figures),
        source=source,
        crops=crops,
        note=note,
    )


PUBLISHED = (
    _row("h36m_p2", "METRO (HRNet-W64)", _METRO_DOCS, "METRO's",
         mpjpe_mm=54.04, pa_mpjpe_mm=36.75),
    _row("h36m_p2", "Mesh Graphormer (HRNet-W64)", _GRAPHORMER_DOCS, "METRO's",
         mpjpe_mm=51.20, pa_mpjpe_mm=34.55),
    _row("h36m_p2", "FastMETRO-L (HRNet-W64)", _FASTMETRO_TABLE, "METRO's", pa_mpjpe_mm=33.6),
    _row("3dpw", "METRO (HRNet-W64)", _METRO_DOCS, "METRO's",
         mpve_mm=88.28, mpjpe_mm=77.10, pa_mpjpe_mm=47.90),
    _row("3dpw", "Mesh Graphormer (HRNet-W64)", _GRAPHORMER_DOCS, "METRO's",
         mpve_mm=87.57, mpjpe_mm=73.98, pa_mpjpe_mm=45.35),
    _row("3dpw", "FastMETRO-S (ResNet-50)", _FASTMETRO_TABLE, "METRO's", pa_mpjpe_mm=49.1),
    _row("3dpw", "FastMETRO-L (HRNet-W64)", _FASTMETRO_TABLE, "METRO's", pa_mpjpe_mm=44.6),
    _row("3dpw", "HybrIK (HRNet-W48)", _README, mpjpe_mm=71.3, pa_mpjpe_mm=41.8),
    _row("3dpw", "HMR2.0a", _README, mpjpe_mm=70.0, pa_mpjpe_mm=44.5),
    _row("3dpw", "HMR2.0b", _SAM_TABLES, mpve_mm=93.1, mpjpe_mm=81.3, pa_mpjpe_mm=54.3),
    _row("3dpw", "TokenHMR", _README, mpve_mm=84.3, mpjpe_mm=70.9, pa_mpjpe_mm=44.8),
    _row("3dpw", "SMPLer-X-H", _SAM_TABLES, mpve_mm=91.8, mpjpe_mm=76.7, pa_mpjpe_mm=46.6),
    _row("3dpw", "CameraHMR", _SAM_TABLES, mpve_mm=65.9, mpjpe_mm=56.0, pa_mpjpe_mm=35.1),
    _row("3dpw", "NLF-L", _SAM_TABLES, mpve_mm=63.7, mpjpe_mm=54.9, pa_mpjpe_mm=33.6),
    _row("3dpw", "SAM 3D Body", _SAM_TABLES, mpve_mm=63.6, mpjpe_mm=54.8, pa_mpjpe_mm=33.8),
    _row("freihand", "METRO (HRNet-W64)", _METRO_DOCS, "METRO's", "one view",
         pa_mpjpe_mm=6.6, pa_mpve_mm=6.7, f_5mm=0.721, f_15mm=0.981),
    _row("freihand", "METRO (HRNet-W64), 95 views", _METRO_DOCS, "METRO's",
         "test-time augmentation",
         pa_mpjpe_mm=6.2, pa_mpve_mm=6.3, f_5mm=0.743, f_15mm=0.984),
    _row("freihand", "Mesh Graphormer (HRNet-W64)", _SAM_TABLES, "METRO's",
         pa_mpjpe_mm=5.9, pa_mpve_mm=6.0, f_5mm=0.764, f_15mm=0.986),
    _row("freihand", "FastMETRO-L (HRNet-W64)", _FASTMETRO_TABLE, "METRO's",
         pa_mpjpe_mm=6.5, pa_mpve_mm=7.1, f_5mm=0.687, f_15mm=0.983),
    _row("freihand", "HaMeR", "as quoted in the tables of WiLoR",
         pa_mpjpe_mm=6.0, pa_mpve_mm=5.7, f_5mm=0.785, f_15mm=0.990),
    _row("freihand", "WiLoR", "as quoted in its own tables",
         pa_mpjpe_mm=5.5, pa_mpve_mm=5.1, f_5mm=0.825, f_15mm=0.993),
    _row("freihand", "SAM 3D Body", "as quoted in its own tables",
         note="not trained on FreiHAND",
         pa_mpjpe_mm=5.5, pa_mpve_mm=6.2, f_5mm=0.737, f_15mm=0.988),
)  # fmt: skip


def published_rows(protocol: str) -> tuple[PublishedRow, ...]:
    """Rows of a protocol; none where nothing comparable was published."""
    return tuple(row for row in PUBLISHED if row.protocol == protocol)
