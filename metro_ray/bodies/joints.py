"""Joint sets: the named lists of joints that annotations, tokens and metrics are made of.

Names and orders are METRO's (`metro/modeling/data/config.py`); hands use FreiHAND's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, kw_only=True, slots=True)
class JointSet:
    """An ordered list of joints and how to draw them.

    Attributes:
        name: short name, used in messages and reports.
        names: joint names in order, `R_` and `L_` for the person's own right and left.
        bones: pairs of joint indices to connect in drawings.
    """

    name: str
    names: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    def index(self, joint: str) -> int:
        """Position of a joint by name.

        Raises:
            ValueError: the set has no such joint.
        """
        if joint not in self.names:
            raise ValueError(
                f"joint set {self.name} has no {joint!r}; it has: {', '.join(self.names)}"
            )
        return self.names.index(joint)


def _limb_bones(names: tuple[str, ...], *chains: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    pairs = [(a, b) for chain in chains for a, b in pairwise(chain)]
    return tuple((names.index(a), names.index(b)) for a, b in pairs)


def flip_pairs(names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Index pairs that swap when a person is mirrored, from the `L_` and `R_` names."""
    return tuple(
        sorted(
            (min(i, names.index("L_" + name[2:])), max(i, names.index("L_" + name[2:])))
            for i, name in enumerate(names)
            if name.startswith("R_")
        )
    )


_LSP = (
    "R_Ankle", "R_Knee", "R_Hip", "L_Hip", "L_Knee", "L_Ankle",
    "R_Wrist", "R_Elbow", "R_Shoulder", "L_Shoulder", "L_Elbow", "L_Wrist",
)  # fmt: skip

_J14_NAMES = (*_LSP, "Neck", "Head")
_J24_NAMES = (
    *_LSP,
    "Neck", "Top_of_Head", "Pelvis", "Thorax", "Spine", "Jaw", "Head",
    "Nose", "L_Eye", "R_Eye", "L_Ear", "R_Ear",
)  # fmt: skip
_J17_NAMES = (
    "Pelvis", "R_Hip", "R_Knee", "R_Ankle", "L_Hip", "L_Knee", "L_Ankle",
    "Torso", "Neck", "Nose", "Head",
    "L_Shoulder", "L_Elbow", "L_Wrist", "R_Shoulder", "R_Elbow", "R_Wrist",
)  # fmt: skip
_FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")
_J21_NAMES = ("Wrist", *(f"{finger}_{part}" for finger in _FINGERS for part in range(1, 5)))

_LEGS_AND_ARMS = (
    ("R_Hip", "R_Knee", "R_Ankle"),
    ("L_Hip", "L_Knee", "L_Ankle"),
    ("R_Shoulder", "R_Elbow", "R_Wrist"),
    ("L_Shoulder", "L_Elbow", "L_Wrist"),
)

J14 = JointSet(
    name="J14",
    names=_J14_NAMES,
    bones=_limb_bones(
        _J14_NAMES,
        *_LEGS_AND_ARMS,
        ("R_Hip", "L_Hip"),
        ("R_Hip", "R_Shoulder", "Neck", "L_Shoulder", "L_Hip"),
        ("Neck", "Head"),
    ),
)
"""Tokens and evaluation of bodies."""

J17 = JointSet(
    name="J17",
    names=_J17_NAMES,
    bones=_limb_bones(
        _J17_NAMES,
        *_LEGS_AND_ARMS,
        ("R_Hip", "Pelvis", "L_Hip"),
        ("Pelvis", "Torso", "Neck", "Nose", "Head"),
        ("R_Shoulder", "Neck", "L_Shoulder"),
    ),
)
"""Rows of the Human3.6M regressor."""

J24 = JointSet(
    name="J24",
    names=_J24_NAMES,
    bones=_limb_bones(
        _J24_NAMES,
        *_LEGS_AND_ARMS,
        ("R_Hip", "Pelvis", "L_Hip"),
        ("Pelvis", "Spine", "Thorax", "Neck", "Jaw", "Head", "Top_of_Head"),
        ("R_Shoulder", "Thorax", "L_Shoulder"),
        ("R_Ear", "R_Eye", "Nose", "L_Eye", "L_Ear"),
    ),
)
"""Annotation rows of bodies: LSP, MPII, Human3.6M and COCO joints side by side."""

J21 = JointSet(
    name="J21",
    names=_J21_NAMES,
    bones=_limb_bones(
        _J21_NAMES,
        *(("Wrist", *(f"{finger}_{part}" for part in range(1, 5))) for finger in _FINGERS),
    ),
)
"""Hands: wrist, then each finger from its base to its tip."""

J24_TO_J14 = (*range(12), 12, 18)
"""METRO compares J14 `Head` with J24 `Head`, not with `Top_of_Head`."""

J17_TO_J14 = (3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10)
"""Rows of the Human3.6M regressor in J14 order."""
