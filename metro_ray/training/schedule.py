"""METRO's learning rate: a step down by ten half way, with the off-by-one of its epoch counter."""

from __future__ import annotations


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


def learning_rate(step: int, *, base_lr: float, epochs: int, steps_per_epoch: int) -> float:
    """Learning rate of a step: `base_lr`, a tenth of it in the second half of the run.

    The halves are told apart by `metro_epoch`. So the drop comes one step before the second half
    begins; the very last step of a run has `base_lr` * 0.01; an odd number of epochs drops at its
    upper half; a run of one epoch drops only on its last step, by 100.

    Args:
        step: Optimizer steps so far, this one included; the first is 1.
        base_lr: Rate of the first half (METRO's --lr).
        epochs: Epochs of the whole run (METRO's --num_train_epochs).
        steps_per_epoch: Steps of one epoch.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be >= 1, got {epochs}")
    return base_lr * 0.1 ** (metro_epoch(step, steps_per_epoch) // (epochs / 2.0))
