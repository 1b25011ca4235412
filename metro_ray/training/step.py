"""One training step: batch to device, forward, losses, backward, Adam (METRO's training loop)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from metro_ray.data.normalize import normalize_images
from metro_ray.errors import TrainingError
from metro_ray.losses import LossWeights, MeshLosses, Targets, build_targets, compute_losses

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.data.sample import Batch


class StepLosses(NamedTuple):
    """What a step's losses were, as plain numbers; see `losses.MeshLosses` for their units."""

    total: float
    joints_3d: float
    keypoints_2d: float
    vertices: float
    terms: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """Everything a step needs that stays the same during a run.

    The same arithmetic as METRO's loop: targets and losses in float32, one Adam update, no
    clipping. Only the network itself runs under autocast.
    """

    model: nn.Module
    """As the worker wrapped it; maps images and token masks to a `MeshPrediction`."""
    body: BodyModel
    """Body model of the predicted mesh, on `device`."""
    optimizer: torch.optim.Optimizer
    device: torch.device
    weights: LossWeights
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False

    def run(self, batch: Batch, *, lr: float, step: int) -> StepLosses:
        """Train on one batch.

        Args:
            batch: On the CPU; at least one row.
            lr: Learning rate of this step.
            step: Number of this step, for the error message.

        Raises:
            TrainingError: A loss is not finite; the weights are as they were before the step.
        """
        batch = batch.to(self.device, non_blocking=True)
        images = normalize_images(batch.image, batch.pixel_gain)
        return self.update(
            images, batch.token_mask, build_targets(batch, self.body), lr=lr, step=step
        )

    def update(
        self,
        images: Float[Tensor, "B 3 224 224"],
        token_mask: Float[Tensor, "B N 1"],
        targets: Targets,
        *,
        lr: float,
        step: int,
    ) -> StepLosses:
        """Forward, backward and optimizer step on normalised images; see `run`."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._losses(images, token_mask, targets)
        losses.total.backward()
        # Read only now, so that a GPU has the whole step queued before the host waits for it.
        numbers = _to_numbers(losses)
        _require_finite(numbers, step, lr)
        self.optimizer.step()
        return numbers

    def _losses(
        self,
        images: Float[Tensor, "B 3 224 224"],
        token_mask: Float[Tensor, "B N 1"],
        targets: Targets,
    ) -> MeshLosses:
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            prediction = self.model(images, token_mask)
        joints = self.body.joints_from_mesh(prediction.vertices[-1])
        return compute_losses(prediction, joints, targets, self.weights, self.body.spec)


def freeze_parts(model: nn.Module, lr_factors: Mapping[str, float]) -> None:
    """Keep the parts whose factor is 0 as they are: no gradient is computed or sent for them."""
    for name, factor in lr_factors.items():
        if factor == 0:
            model.get_submodule(name).requires_grad_(False)


def make_optimizer(
    model: nn.Module, lr: float, *, lr_factors: Mapping[str, float] | None = None
) -> torch.optim.Adam:
    """METRO's optimizer: Adam over all parameters, no weight decay.

    Args:
        model: The network.
        lr: Learning rate.
        lr_factors: Parts of the network ("backbone", "upsampler") that learn at a multiple of `lr`.
            Parts of the same factor share a group; METRO has a single one. What `freeze_parts`
            froze is in none.
    """
    factors = lr_factors or {}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(factors.get(name.split(".")[0], 1.0), []).append(parameter)
    return torch.optim.Adam(
        [{"params": group, "lr_factor": factor} for factor, group in groups.items()],
        lr=lr,
        betas=(0.9, 0.999),
        eps=1e-8,
        fused=True,
    )


def seed_step(seed: int, step: int, rank: int) -> None:
    """Set PyTorch's generators to a state that depends only on the run's seed, step and rank.

    Dropout is the only thing that draws from them while training. So a run that continues from a
    checkpoint, in the middle of an epoch too, draws what it would have drawn, and no generator
    state has to be gathered from the ranks and saved.
    """
    state = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))


def _to_numbers(losses: MeshLosses) -> StepLosses:
    """Copy all scalars to the host at once."""
    names = list(losses.terms)
    parts = [losses.total, losses.joints_3d, losses.keypoints_2d, losses.vertices]
    values = torch.stack([part.detach().float() for part in (*parts, *losses.terms.values())])
    total, joints_3d, keypoints_2d, vertices, *terms = values.tolist()
    return StepLosses(
        total, joints_3d, keypoints_2d, vertices, dict(zip(names, terms, strict=True))
    )


def _require_finite(losses: StepLosses, step: int, lr: float) -> None:
    if np.isfinite([losses.total, *losses.terms.values()]).all():
        return
    terms = ", ".join(f"{name} {value:.4g}" for name, value in losses.terms.items())
    raise TrainingError(
        f"the loss of step {step} is not finite: total {losses.total:.4g} ({terms}; lr {lr:.3g}). "
        "The weights before this step are kept. Try a smaller optim.lr, optim.precision fp32, or "
        "weights to start from (model.backbone_weights, run.resume_checkpoint); if a single term "
        "is NaN from the first step on, look at the labels of the training set"
    )
