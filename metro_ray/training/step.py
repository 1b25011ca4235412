"""One training step: batches to device, forward, losses, backward, Adam (METRO's training loop)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from metro_ray.data.normalize import normalize_images
from metro_ray.losses import LossWeights, MeshLosses, Targets, build_targets, compute_losses
from metro_ray.models.precision import Precision, autocast
from metro_ray.training.guard import Buffers
from metro_ray.training.sources import SourceSums, sum_by_source
from metro_ray.training.window import label_shares, take_share

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.data.sample import Batch


_LOSS_SCALE = 256.0


class StepLosses(NamedTuple):
    """What a step's losses were, as plain numbers; see `losses.MeshLosses` for their units."""

    total: float
    joints_3d: float
    keypoints_2d: float
    vertices: float
    terms: dict[str, float]
    grad_norm: float
    """Length of the gradient of all ranks, before it is clipped."""
    applied: bool
    """False where loss or gradient of any rank were not finite: the step has changed nothing."""
    sources: tuple[SourceSums, ...] = ()
    """Of this rank's rows by source, where they are told apart."""

    @property
    def is_finite(self) -> bool:
        """Whether every loss of this rank is."""
        return all(map(math.isfinite, (self.total, *self.terms.values())))


class StepInput(NamedTuple):
    """A batch as the network takes it, on its device."""

    images: Float[Tensor, "B 3 224 224"]
    token_mask: Float[Tensor, "B N 1"]
    targets: Targets
    source: Int[Tensor, " B"] | None = None
    """Which source each row comes from; needed where sources are told apart."""


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """Everything a step needs that stays the same during a run.

    The same arithmetic as METRO's loop: targets and losses in float32, one Adam update. Only the
    network itself runs under autocast.

    A step counts only where loss and gradient are finite on every rank. That costs no message: a
    loss that is not finite makes its own gradient NaN, which averaging hands to all ranks.
    """

    model: nn.Module
    """As the worker wrapped it; maps images and token masks to a `MeshPrediction`."""
    body: BodyModel
    """Body model of the predicted mesh, on `device`."""
    optimizer: torch.optim.Optimizer
    device: torch.device
    weights: LossWeights
    precision: Precision = "fp32"
    channels_last: bool = False
    clip_grad_norm: float | None = None
    num_sources: int = 0
    """Sources whose losses are told apart; 0 tells none."""
    scaler: GradScaler = field(default_factory=lambda: make_scaler("cpu", "fp32"))

    def run(self, window: Sequence[Batch], *, lr: float) -> StepLosses:
        """Train on the batches of one step.

        Args:
            window: On the CPU; at least one, of at least one row each.
            lr: Learning rate of this step.
        """
        return self.update([self._input(batch) for batch in window], lr=lr)

    def update(self, inputs: Sequence[StepInput], *, lr: float) -> StepLosses:
        """Forward, backward and optimizer step; see `run`."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        buffers = Buffers(self.model)
        losses, by_source = self._backward(inputs)
        self.scaler.unscale_(self.optimizer)
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        # Read only now, so that a GPU has the whole step queued before the host waits for it.
        numbers = _to_numbers(losses, norm, by_source)
        if numbers.applied:
            if self.clip_grad_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(trained, self.clip_grad_norm, norm)
            self.scaler.step(self.optimizer)
        else:
            buffers.put_back()
        self.scaler.update()
        return numbers

    def _input(self, batch: Batch) -> StepInput:
        batch = batch.to(self.device, non_blocking=True)
        images = normalize_images(batch.image, batch.pixel_gain)
        return StepInput(images, batch.token_mask, build_targets(batch, self.body), batch.source)

    def _backward(self, inputs: Sequence[StepInput]) -> tuple[MeshLosses, Float[Tensor, "S 6"]]:
        """Add the gradients of all inputs; the ranks exchange them with the last one only.

        Returns:
            Losses, and sums by source.
        """
        shares = label_shares([given.targets for given in inputs])
        parts = []
        by_source = torch.zeros(self.num_sources, len(SourceSums._fields), device=self.device)
        for number, (given, share) in enumerate(zip(inputs, shares, strict=True), start=1):
            # Wrapped models of several ranks have `no_sync`, a model alone has nobody to tell.
            waits = number < len(inputs) and hasattr(self.model, "no_sync")
            with self.model.no_sync() if waits else nullcontext():  # pyright: ignore
                losses, sums = self._losses(given)
                by_source += sums
                if len(inputs) > 1:
                    losses = take_share(losses, share, self.weights)
                lost = torch.where(losses.total.detach().isfinite(), 1.0, torch.nan)
                self.scaler.scale(losses.total * lost).backward()
            parts.append(_detached(losses))
        return (parts[0] if len(parts) == 1 else _added(parts)), by_source

    def _losses(self, given: StepInput) -> tuple[MeshLosses, Tensor | float]:
        images = given.images
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            prediction = self.model(images, given.token_mask)
        joints = self.body.joints_from_mesh(prediction.vertices[-1])
        losses = compute_losses(prediction, joints, given.targets, self.weights, self.body.spec)
        if not self.num_sources or given.source is None:
            return losses, 0.0
        return losses, sum_by_source(
            prediction,
            joints,
            given.targets,
            given.source,
            weights=self.weights,
            spec=self.body.spec,
            num_sources=self.num_sources,
        )


def make_scaler(device: torch.device | str, precision: Precision) -> GradScaler:
    """The loss scale that keeps fp16 gradients from vanishing; does nothing for fp32 and bf16.

    PyTorch starts at 65536, for losses near 1; METRO's weights make them some hundred times that.
    """
    kind = torch.device(device).type
    return GradScaler(kind, init_scale=_LOSS_SCALE, enabled=precision == "fp16")


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

    Dropout is the only thing of ours that draws from them while training; Python's and NumPy's are
    set too, for backbones from elsewhere. So a run that continues from a checkpoint, in the middle
    of an epoch too, draws what it would have drawn, and no generator state has to be gathered from
    the ranks and saved.
    """
    state = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))
    np.random.seed(int(state[0]) % 2**32)
    random.seed(int(state[0]))


def _detached(losses: MeshLosses) -> MeshLosses:
    """Without the graph, so that it can go before the next batch is computed."""
    parts = [part.detach() for part in losses[:4]]
    terms = {name: term.detach() for name, term in losses.terms.items()}
    return MeshLosses(parts[0], parts[1], parts[2], parts[3], terms)


def _added(parts: Sequence[MeshLosses]) -> MeshLosses:
    sums = [torch.stack(values).sum() for values in zip(*(part[:4] for part in parts), strict=True)]
    names = parts[0].terms
    terms = {name: torch.stack([part.terms[name] for part in parts]).sum() for name in names}
    return MeshLosses(sums[0], sums[1], sums[2], sums[3], terms)


def _to_numbers(
    losses: MeshLosses, grad_norm: Tensor, by_source: Float[Tensor, "S 6"]
) -> StepLosses:
    """Copy all scalars to the host at once."""
    names = list(losses.terms)
    parts = [*losses[:4], *losses.terms.values(), grad_norm]
    scalars = torch.stack([part.float() for part in parts])
    values = torch.cat([scalars, by_source.flatten()]).tolist()
    sums, width = values[len(parts) :], by_source.shape[1]
    total, joints_3d, keypoints_2d, vertices, *terms, norm = values[: len(parts)]
    return StepLosses(
        total,
        joints_3d,
        keypoints_2d,
        vertices,
        dict(zip(names, terms, strict=True)),
        grad_norm=norm,
        applied=math.isfinite(norm),
        sources=tuple(SourceSums(*sums[i : i + width]) for i in range(0, len(sums), width)),
    )
