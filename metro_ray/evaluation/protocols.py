"""What a figure was measured on and how: the protocols whose names go with every number.

Two figures can be compared where data, crops, joints and alignment are the same. METRO's Human3.6M
errors, for one, move by a millimetre when the boxes are drawn more tightly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metro_ray.bodies.spec import MeshSpec
    from metro_ray.config.schema import TrainConfig

LICENSED_MESHES = ("smpl", "mano")
"""Meshes that published figures are about."""
_LABEL_BOX = "box of the label row, side 200 px x scale"
_BODY = (
    "MPJPE with the middle of the hips (J14 2 and 3) on each other, MPVE relative to the regressed "
    "pelvis, PA after similarity Procrustes without reflection"
)
_HAND = (
    "MPJPE and MPVE relative to the wrist, PA after similarity Procrustes without reflection (the "
    "leaderboard's own alignment allows reflections: metro-ray score freihand)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """A protocol as reports print it."""

    name: str
    """As `eval.protocol` takes it."""
    title: str
    data: str
    crop: str
    joints: str
    alignment: str


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="h36m_p2",
            title="Human3.6M, Protocol 2",
            data="subjects 9 and 11, frontal camera; captured joints, no meshes",
            crop=f"{_LABEL_BOX} (boxes of GraphCMR's lists)",
            joints="14 LSP joints: Human3.6M regressor on the predicted mesh, captured joints",
            alignment=_BODY,
        ),
        Protocol(
            name="3dpw",
            title="3DPW, test split",
            data="every person and frame of the test sequences; neutral SMPL meshes",
            crop=f"{_LABEL_BOX} (1.2 x the longer side of the annotated box)",
            joints="14 LSP joints: Human3.6M regressor on the predicted mesh, labelled joints",
            alignment=_BODY,
        ),
        Protocol(
            name="freihand",
            title="FreiHAND, evaluation split",
            data="evaluation images; MANO meshes",
            crop=f"{_LABEL_BOX} (the middle 180 px of the 224 px picture)",
            joints="21 joints: MANO's regressor and finger tips",
            alignment=_HAND,
        ),
    )
}


def open_protocol(spec: MeshSpec) -> Protocol:
    """Data without a published protocol: rendered people and hands, or your own."""
    count = len(spec.joints)
    return Protocol(
        name="open",
        title="open data",
        data="the rows of the validation set; synthetic or your own",
        crop=_LABEL_BOX,
        joints=f"{count} joints ({spec.joints.name}) regressed from the {spec.name} mesh",
        alignment=_BODY if spec.kind == "body" else _HAND,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtocolUsed:
    """The protocol of one evaluation, and what it was measured with."""

    protocol: Protocol
    mesh: str
    """Name of the body model."""
    data: str
    """The validation set, as the settings name it."""
    views: str
    """How crops were made, and what changed them."""
    departures: tuple[str, ...]
    """Why figures cannot be compared with published ones of the protocol; empty where they can."""

    @property
    def line(self) -> str:
        """For the log: everything in one line."""
        one = self.protocol
        parts = [one.title, f"crops: {one.crop}, {self.views}", one.joints, one.alignment]
        return f"Protocol {'; '.join(parts)}; mesh {self.mesh}; data {self.data}"

    def values(self) -> dict[str, Any]:
        """As `result.json` and the Parquet file hold it."""
        return {
            **asdict(self.protocol),
            "mesh": self.mesh,
            "data_set": self.data,
            "views": self.views,
            "departures": list(self.departures),
        }


def protocol_of(config: TrainConfig, spec: MeshSpec) -> ProtocolUsed:
    """The protocol that the settings name or, for auto, the data set's name tells."""
    name = config.eval.protocol
    if name == "auto":
        name = guess_protocol(config.data.val_yaml or "", spec.kind)
    protocol = PROTOCOLS[name] if name in PROTOCOLS else open_protocol(spec)
    departures = []
    if protocol.name == "open":
        departures.append("the data set has no published protocol")
    if spec.name not in LICENSED_MESHES:
        departures.append(f"the mesh is {spec.name}, not SMPL or MANO")
    scale, rotation = config.eval.scale_factor, config.eval.rotation_deg
    if scale != 1.0 or rotation != 0.0:
        departures.append(f"crops are scaled by {scale:g} and rotated by {rotation:g} degrees")
    return ProtocolUsed(
        protocol=protocol,
        mesh=spec.name,
        data=config.data.val_yaml or "none",
        views=f"{_views(config)}, data.crop {config.data.crop}",
        departures=tuple(departures),
    )


def _views(config: TrainConfig) -> str:
    if not config.eval.multiscale:
        return f"scale {config.eval.scale_factor:g}, rotation {config.eval.rotation_deg:g} deg"
    views = config.views
    count = f"{len(views.scales)} scales x {len(views.rotations_deg)} rotations"
    return f"{count}{' x 2 sides' if views.flip else ''} fused"


def guess_protocol(val_yaml: str, kind: str) -> str:
    """A protocol by the names of METRO's data set files, which must name the right split.

    >>> guess_protocol("human3.6m/valid.protocol2.yaml", "body")
    'h36m_p2'
    >>> guess_protocol("3dpw/train.yaml", "body")
    'open'
    """
    path = PurePosixPath(val_yaml.lower())
    file, whole = path.name, "/".join(path.parts[-2:])
    is_test = "test" in file or "eval" in file
    if kind == "hand":
        return "freihand" if "freihand" in whole and is_test else "open"
    if "3dpw" in whole and is_test:
        return "3dpw"
    is_human36m = any(name in whole for name in ("human3.6m", "human36m", "h36m"))
    is_second = any(name in file for name in ("protocol2", "protocol_2", "p2"))
    return "h36m_p2" if is_human36m and is_second else "open"
