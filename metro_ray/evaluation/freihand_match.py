"""Whether predictions belong to a ground truth, sample by sample and joint by joint.

A file in another order has the right shapes and gets scores, only bad ones. Shapes of hands are
compared without their place, turn and size, so it does not matter what a network predicts of these.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from metro_ray.errors import DataError
from metro_ray.evaluation.freihand import Hands

MANO_TO_FREIHAND = (
    *(0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20),
)  # fmt: skip
"""FreiHAND's joint order from MANO's: 16 joints, then the tips of thumb, index, ..., little."""
_CLEARLY_CLOSER = 0.5
_MIN_SAMPLES = 8
_BLOCK = 512


def require_match(truth: Hands, prediction: Hands) -> None:
    """Refuse predictions of other samples, or in another order.

    An order is called wrong only where another one fits more than twice as well: for at least half
    of at least eight samples, which must also be claimed by different predictions.

    Raises:
        DataError: says what does not match.
    """
    if len(truth.joints) != len(prediction.joints):
        raise DataError(
            f"the prediction has {len(prediction.joints)} samples, the ground truth "
            f"{len(truth.joints)}; every sample of the data set needs a prediction, in its order"
        )
    if len(truth.joints) < _MIN_SAMPLES:
        return
    expected, actual = _shapes(truth.joints), _shapes(prediction.joints)
    own = np.linalg.norm(actual - expected, axis=1)
    reordered = _shapes(prediction.joints[:, list(MANO_TO_FREIHAND)])
    if np.median(np.linalg.norm(reordered - expected, axis=1)) < _CLEARLY_CLOSER * np.median(own):
        raise DataError(
            "the predicted joints are in MANO's order (16 joints, then fingertips); expected "
            f"FreiHAND's (wrist, then four joints a finger): joints[:, {list(MANO_TO_FREIHAND)}]"
        )
    _require_order(expected, actual, own)


def _require_order(
    expected: Float[np.ndarray, "N D"],
    actual: Float[np.ndarray, "N D"],
    own: Float[np.ndarray, " N"],
) -> None:
    nearest, distance = _nearest(expected, actual)
    is_other = distance < _CLEARLY_CLOSER * own
    num_other, num_claimed = int(is_other.sum()), len(np.unique(nearest[is_other]))
    if 2 * min(num_other, num_claimed) < len(own):
        return
    example = int(np.flatnonzero(is_other)[0])
    raise DataError(
        f"the predictions are not in the data set's order: {num_other} of {len(own)} fit another "
        f"sample more than twice as well as their own, such as prediction {example} ground truth "
        f"{nearest[example]}"
    )


def _nearest(
    expected: Float[np.ndarray, "N D"], actual: Float[np.ndarray, "N D"]
) -> tuple[np.ndarray, Float[np.ndarray, " N"]]:
    """For each prediction the closest ground truth and how far it is, in bounded memory."""
    squares = np.square(expected).sum(axis=1)
    nearest = np.concatenate(
        [
            (squares - 2.0 * actual[start : start + _BLOCK] @ expected.T).argmin(axis=1)
            for start in range(0, len(actual), _BLOCK)
        ]
    )
    return nearest, np.linalg.norm(actual - expected[nearest], axis=1)


def _shapes(joints: Float[np.ndarray, "N J 3"]) -> Float[np.ndarray, "N D"]:
    """All distances between joints over their norm: the same however a hand is moved or scaled."""
    first, second = np.triu_indices(joints.shape[1], k=1)
    distances = np.linalg.norm(joints[:, first] - joints[:, second], axis=2)
    norm = np.linalg.norm(distances, axis=1, keepdims=True)
    return distances / np.maximum(norm, np.finfo(np.float64).tiny)
