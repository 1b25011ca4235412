"""The learning rate of a step: METRO's rule with its off-by-one, or a cosine; warm-up for both."""

from __future__ import annotations

import math
from typing import Literal


def metro_epoch(step: int, steps_per_epoch: int) -> int:
    """METRO's epoch number of a step: the number of epochs that are complete *after* it.

    Steps count from 1 and METRO divides them by the steps of an epoch, so the number goes up on the
    last step of an epoch, not on the first of the next (`run_metro_bodymesh.py`, the training
    loop). METRO's log lines carry this number.

    Args:
        step: Optimizer steps so far, this one included; the first is 1.
        steps_per_epoch: Steps of one epoch.
    """
    if step < 1 or steps_per_epoch < 1:
        raise ValueError(f"step and steps_per_epoch count from 1, got {step} and {steps_per_epoch}")
    return step // steps_per_epoch


def learning_rate(
    step: int,
    *,
    base_lr: float,
    epochs: int,
    steps_per_epoch: int,
    schedule: Literal["metro", "cosine"] = "metro",
    warmup_steps: int = 0,
) -> float:
    """Learning rate of a step.

    metro: `base_lr`, a tenth of it in the second half of the run.

    The halves are told apart by `metro_epoch`. So the drop comes one step before the second half
    begins; the very last step of a run has `base_lr` * 0.01; an odd number of epochs drops at its
    upper half; a run of one epoch drops only on its last step, by 100.

    cosine: half a cosine from `base_lr` after the warm-up to zero after the last step.

    Args:
        step: Optimizer steps so far, this one included; the first is 1.
        base_lr: Rate of the first half (METRO's --lr).
        epochs: Epochs of the whole run (METRO's --num_train_epochs).
        steps_per_epoch: Steps of one epoch.
        schedule: Which of the two.
        warmup_steps: The rate of the first steps is multiplied by step / warmup_steps.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be >= 1, got {epochs}")
    warmup = min(1.0, step / warmup_steps) if warmup_steps else 1.0
    if schedule == "metro":
        fall = 0.1 ** (metro_epoch(step, steps_per_epoch) // (epochs / 2.0))
    else:
        left = max(1, epochs * steps_per_epoch - warmup_steps)
        fall = 0.5 * (1.0 + math.cos(math.pi * max(0, step - 1 - warmup_steps) / left))
    return base_lr * warmup * fall
