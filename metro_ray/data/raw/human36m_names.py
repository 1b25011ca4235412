"""What the name of a Human3.6M picture says: `images/S11_Directions_1.54138969_000001.jpg`."""

from __future__ import annotations

import re
from typing import NamedTuple

ACTIONS = {
    "Directions": 2, "Discussion": 3, "Eating": 4, "Greeting": 5, "Phoning": 6, "Posing": 7,
    "Purchases": 8, "Sitting": 9, "SittingDown": 10, "Smoking": 11, "Photo": 12,
    "TakingPhoto": 12, "Waiting": 13, "Walking": 14, "WalkDog": 15, "WalkingDog": 15,
    "WalkTogether": 16,
}  # fmt: skip
"""Number of each action in Pose2Mesh's files; METRO's table."""
CAMERAS = {"54138969": 1, "55011271": 2, "58860488": 3, "60457274": 4}
_NAME = re.compile(r"(?:.*/)?S(\d+)_([A-Za-z]+)(?:_\d+)?\.(\d+)_(\d+)\.\w+")


class FrameName(NamedTuple):
    """One picture."""

    file: str
    """Name in the npz: the row's key and the picture below the folder."""
    subject: int
    action: str
    camera_id: str
    frame: int
    """From 0, as Pose2Mesh counts; names count from 1."""

    @property
    def action_number(self) -> int:
        """Number of the action in Pose2Mesh's files."""
        return ACTIONS[self.action]

    @property
    def camera(self) -> int:
        """Number of the camera in Pose2Mesh's files, 1 to 4."""
        return CAMERAS[self.camera_id]


def parse_name(file: str) -> FrameName | None:
    """Read a name; None when it is another kind of name."""
    match = _NAME.fullmatch(file)
    if match is None:
        return None
    subject, action, camera, frame = match.groups()
    return FrameName(file, int(subject), action, camera, int(frame) - 1)
