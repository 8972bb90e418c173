"""Training by several processes, each with its share of every batch, with the same result as by one process.

The loss, and each of its terms, is a mean over a batch's samples. So the losses of the shares, weighted by their sizes,
add up to that of the batch, and so do their gradients. Two things depend on more than one sample, and are handled here:
batch normalisation, whose moments are added up over the processes, and noise, which each process draws for the whole
batch from the same seed and takes its own rows of. Only rounding differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Share:
    """One process's share of a batch.

    Attributes:
        rank: of the process, from 0.
        processes: in all.
        whole: samples in the batch; if there are fewer than processes, each takes all of them.
    """

    rank: int
    processes: int
    whole: int

    @property
    def rows(self) -> slice:
        """Which samples of the batch are its own."""
        return slice(None) if self.whole < self.processes else slice(self.rank, None, self.processes)

    @property
    def weight(self) -> float:
        """Its part in the batch's means; those of all processes add up to 1."""
        if self.whole < self.processes:
            return 1 / self.processes
        return len(range(self.whole)[self.rows]) / self.whole


class Joined:
    """The connection of one process to the others.

    Args:
        add: replaces a tensor by the sum of those that all processes give, which must all call it.
        rank: of this process, from 0.
        processes: in all.

    Attributes:
        share: of the batch at hand.
    """

    def __init__(self, add: Callable[[Tensor], None], rank: int, processes: int) -> None:
        self._add = add
        self.share = Share(rank, processes, processes)

    def take(self, whole: int) -> Share:
        """Sets and returns the share of a batch with this many samples."""
        self.share = Share(self.share.rank, self.share.processes, whole)
        return self.share

    def added(self, tensor: Tensor) -> Tensor:
        """Returns the sum of the tensors that all processes give, on this one's device; it may be in their place."""
        total = tensor.detach().cpu().contiguous()
        self._add(total)
        return total.to(tensor.device)

    def moments(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and variance (C,) of the whole batch from those of each share (Chan, Golub & LeVeque 1983)."""
        shares = [replace(self.share, rank=rank) for rank in range(self.share.processes)]
        found = mean.new_zeros(len(shares), 2, len(mean))  # one row is filled by each process
        found[self.share.rank] = torch.stack([mean, variance])
        means, variances = self.added(found).unbind(1)  # (processes, C)
        weights = mean.new_tensor([share.weight for share in shares])[:, None]
        joint = (weights * means).sum(0)
        return joint, (weights * (variances + (means - joint).square())).sum(0)

    def add_up(self, module: nn.Module, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sets the gradients to their sums over the processes, and returns the terms of the whole batch."""
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        own = torch.stack([self.share.weight * term.detach() for term in terms.values()])
        total = self.added(torch.cat([own, *(gradient.flatten() for gradient in gradients)]))
        found, *sums = torch.split(total, [len(terms), *(gradient.numel() for gradient in gradients)])
        for gradient, summed in zip(gradients, sums, strict=True):
            gradient.copy_(summed.view_as(gradient))
        return dict(zip(terms, found, strict=True))

    @contextmanager
    def joins(self, module: nn.Module) -> Iterator[None]:
        """Joins the module's batch normalisations and noise to those of the other processes, within the context."""
        parts = list(module.modules())
        for part in parts:
            if isinstance(part, _BatchNorm):
                part.__dict__["forward"] = partial(_normalise, part, self)
            elif isinstance(part, Noise):
                part.joined = self
        try:
            yield
        finally:
            for part in parts:
                part.__dict__.pop("forward", None)
                if isinstance(part, Noise):
                    part.joined = None


class Noise(nn.Module):
    """Standard normal noise for a batch. Modules that are trained draw theirs from this alone."""

    def __init__(self) -> None:
        super().__init__()
        self.joined: Joined | None = None

    def forward(self, like: Tensor) -> Tensor:
        """Returns noise of a tensor's shape (B, ...); of several processes each gets its rows of one draw."""
        if self.joined is None:
            return torch.randn_like(like)
        share = self.joined.share
        own = torch.empty_like(like)  # drawn in the order of memory, as it is for the whole batch
        whole = torch.empty_strided(
            (share.whole, *own.shape[1:]),
            (own[0].numel(), *own.stride()[1:]),
            dtype=own.dtype,
            device=own.device,
        )
        return whole.normal_()[share.rows]


def _normalise(norm: _BatchNorm, joined: Joined, values: Tensor) -> Tensor:
    """Returns what the module would for the whole batch, and updates its running moments likewise."""
    if not norm.training:
        return type(norm).forward(norm, values)
    found, mean, variance = _Normalised.apply(values, norm.weight, norm.bias, norm.eps, joined)
    if norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None:
        count = joined.share.whole * values[0, 0].numel()
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked += 1
    result: Tensor = found
    return result


class _Normalised(torch.autograd.Function):
    """Batch normalisation by the moments of the whole batch (Ioffe & Szegedy 2015, algorithm 1, and its gradient)."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, scale: Tensor, shift: Tensor, eps: float, joined: Joined
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes = [0, *range(2, values.dim())]
        whole = values.to(torch.promote_types(values.dtype, torch.float32))  # the network may compute in less
        mean, variance = joined.moments(*torch.var_mean(whole, axes, correction=0)[::-1])  # (C,)
        inverse = (variance + eps).rsqrt()
        normal = (whole - _wide(mean, values)) * _wide(inverse, values)
        ctx.save_for_backward(normal, inverse, scale)
        ctx.joined, ctx.count = joined, values.numel() / values.shape[1] / joined.share.weight
        ctx.mark_non_differentiable(mean, variance)
        found = normal * _wide(scale, values) + _wide(shift, values)
        return found.to(values.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        normal, inverse, scale = ctx.saved_tensors
        axes = [0, *range(2, gradient.dim())]
        coming = gradient.to(normal.dtype)
        own = torch.stack([(coming * normal).sum(axes), coming.sum(axes)])  # of scale and shift
        along, level = ctx.joined.added(own.clone()) / ctx.count
        left = coming - normal * _wide(along, gradient) - _wide(level, gradient)
        return (_wide(scale * inverse, gradient) * left).to(gradient.dtype), own[0], own[1], None, None


def _wide(channels: Tensor, like: Tensor) -> Tensor:
    """Returns a number for each channel, (C,), in a shape that goes with (B, C, ...)."""
    return channels.view(1, -1, *[1] * (like.dim() - 2))
