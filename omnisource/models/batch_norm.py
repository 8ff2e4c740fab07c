"""Batch normalization of a step that many processes share: when the running statistics move, and whose a batch's are.

Used on its own, the normalization moves its running statistics in the forward, as torch's does. In training
`RunningStatistics` holds them still until the end of a step. So they do not depend on how the microbatches of a step
are shared out over processes and accumulation, and a step that fails leaves them as they were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from omnisource.distributed import processes


@dataclass
class Recorded:
    """What the batches of one step would make of running statistics that are zero.

    Attributes:
        mean: [C], of the type of the running mean.
        variance: [C], likewise.
        batches: How many batches that was.
    """

    mean: Tensor
    variance: Tensor
    batches: int = 0


class BatchNorm(_BatchNorm):
    """Batch normalization of [N, C, ...] that also takes a batch of a single value a channel in training.

    Such a batch has no variance: it is normalized by the running statistics and leaves them as they are.

    Args:
        channels: C.
        momentum: Share of the running statistics that a batch replaces.

    Attributes:
        is_synchronized: Whether a batch is what all processes have at this place, set by `synchronize_batch_norm`.
        recorded: Takes the place of the running statistics in the forward while `RunningStatistics` records.
    """

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__(channels, eps=1e-5, momentum=momentum)
        self.is_synchronized = False
        self.recorded: Recorded | None = None

    def normalized(self, x: Tensor, is_counted: bool) -> Tensor:
        """Returns x normalized, [N, C, ...]; in training by its own statistics.

        Args:
            x: [N, C, ...], floating point.
            is_counted: Whether, in training, its statistics are counted into the running ones.
        """
        is_synchronized = self.is_synchronized and processes.world_size() > 1  # then there is never a single value
        if not self.training or (x.numel() == self.num_features and not is_synchronized):
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        moving_mean, moving_variance = self._count_batch() if is_counted else (None, None)
        momentum = self.momentum or 0.0
        if not is_synchronized:
            return F.batch_norm(
                x, moving_mean, moving_variance, self.weight, self.bias, True, momentum=momentum, eps=self.eps
            )
        output, mean, variance = _SynchronizedNormalization.apply(x, self.weight, self.bias, self.eps)
        if moving_mean is not None and moving_variance is not None:
            moving_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
            moving_variance.mul_(1 - momentum).add_(variance, alpha=momentum)
        return output

    def _count_batch(self) -> tuple[Tensor, Tensor]:
        """Counts one batch; returns the mean and the variance that it is to move."""
        if self.recorded is not None:
            self.recorded.batches += 1
            return self.recorded.mean, self.recorded.variance
        mean, variance, batches = _running(self)
        batches.add_(1)
        return mean, variance


class RunningStatistics:
    """Holds the running statistics of a module still for a step, and moves them at its end, alike on all processes.

    Every batch that is counted moves them by running = (1 - momentum) x running + momentum x its own, microbatch after
    microbatch, and within one in the order of the sources. Process r has the microbatches before those of process
    r + 1, so what each process made of zeros is enough: running = (1 - momentum)^batches x running + that, process
    after process.

    Example:
        statistics = RunningStatistics(model)
        with statistics.recording():
            ...  # forward of this process's microbatches, in their order
        statistics.combine()

    Args:
        module: Is on its device; without any `BatchNorm` in it there is nothing to move, and nothing is sent.

    Raises:
        ValueError: A batch normalization is not of that class, and so cannot be held still.
    """

    def __init__(self, module: nn.Module) -> None:
        for name, norm in module.named_modules():
            if isinstance(norm, _BatchNorm) and not isinstance(norm, BatchNorm):
                raise ValueError(
                    f"{name}: a {type(norm).__name__} moves its running statistics in the forward, on every process by "
                    "other batches; make it of omnisource.models.batch_norm.BatchNorm"
                )
        self._norms = [norm for norm in module.modules() if isinstance(norm, BatchNorm)]
        self._recorded: list[Recorded] = []
        if not self._norms:
            return
        device = _running(self._norms[0])[0].device
        self._sizes = [2 * norm.num_features for norm in self._norms]  # a mean and a variance for every channel
        self._norm_of_value = torch.arange(len(self._norms)).repeat_interleave(torch.tensor(self._sizes)).to(device)
        self._kept = torch.tensor([1 - (norm.momentum or 0.0) for norm in self._norms], dtype=torch.float64).to(device)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Records the batches that are forwarded within; what a former step recorded and did not use is forgotten."""
        self._recorded = [_nothing_recorded(norm) for norm in self._norms]
        for norm, recorded in zip(self._norms, self._recorded, strict=True):
            norm.recorded = recorded
        try:
            yield
        finally:
            for norm in self._norms:
                norm.recorded = None

    @torch.no_grad()
    def combine(self) -> None:
        """Moves the running statistics by what was recorded since the last time; called by all processes together.

        One collective, whose size does not depend on how many batches any process has counted; none without BatchNorm.
        """
        if not self._norms:
            return
        assert self._recorded, "nothing was recorded since the last time"
        running = torch.cat([value for norm in self._norms for value in _running(norm)[:2]])
        values = [value for recorded in self._recorded for value in (recorded.mean, recorded.variance)]
        batches = running.new_tensor([recorded.batches for recorded in self._recorded])
        self._recorded = []
        parts = processes.gather_tensors(torch.cat([*values, batches]))
        if any(norm.is_synchronized for norm in self._norms):
            parts = parts[:1]  # all processes have recorded the same
        counted = torch.zeros_like(batches)
        for part in parts:
            moved, batches = part.split([len(running), len(self._norms)])
            kept = (self._kept**batches).to(running.dtype)
            running = running * kept[self._norm_of_value] + moved
            counted += batches
        for norm, of_norm, count in zip(self._norms, running.split(self._sizes), counted.long(), strict=True):
            mean, variance, tracked = _running(norm)
            mean.copy_(of_norm[: norm.num_features])
            variance.copy_(of_norm[norm.num_features :])
            tracked.add_(count)


def synchronize_batch_norm(module: nn.Module) -> None:
    """Makes every `BatchNorm` of a module take what all processes have at one place of a forward as one batch.

    All processes must then go through the module in training together, with the same media in the same order; their
    batches may differ in size. With one process, and in evaluation, nothing changes.
    """
    for norm in module.modules():
        if isinstance(norm, BatchNorm):
            norm.is_synchronized = True


class _SynchronizedNormalization(torch.autograd.Function):
    """Normalizes x, [N, C, ...], by the statistics of all processes; also returns these, the variance unbiased.

    The gradient is that of the sum of what all processes make of it, so under DistributedDataParallel that of their
    mean loss. Statistics and gradients are computed in the type of the weight, also for x of half precision.

    Source: Ioffe and Szegedy 2015, "Batch Normalization", section 3, for the gradient; Chan, Golub and LeVeque 1983,
    "Algorithms for Computing the Sample Variance", for joining the variances of parts without a difference of large
    squares.
    """

    @staticmethod
    def forward(
        ctx: Any,  # torch gives its own kind of context
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(x.to(weight.dtype), dim=_all_but_channels(x), correction=0)
        count = x.numel() // x.shape[1]
        # In float64 the counts are exact, and the joined statistics as good as those of the parts.
        mean, variance = mean.double(), variance.double()
        own = torch.cat([mean, variance * count, mean.new_tensor([count])])
        parts = torch.stack(processes.gather_tensors(own))  # [processes, 2 * C + 1]
        means, squares, counts = parts.split([x.shape[1], x.shape[1], 1], dim=1)
        total = counts.sum()
        joined = (counts * means).sum(dim=0) / total
        squares = (squares + counts * (means - joined) ** 2).sum(dim=0)  # [processes, C] -> [C]
        mean, variance = joined.to(weight.dtype), (squares / total).to(weight.dtype)
        ctx.save_for_backward(x, weight, mean, variance, total)
        ctx.eps = eps
        unbiased = (squares / (total - 1)).to(weight.dtype)
        ctx.mark_non_differentiable(mean, unbiased)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, unbiased

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance, total = ctx.saved_tensors
        by_channel = (1, -1, *[1] * (x.ndim - 2))
        gradient = gradients[0].to(weight.dtype)
        scale = torch.rsqrt(variance + ctx.eps)
        normalized = (x.to(weight.dtype) - mean.view(by_channel)) * scale.view(by_channel)
        of_bias = gradient.sum(dim=_all_but_channels(x))
        of_weight = (gradient * normalized).sum(dim=_all_but_channels(x))
        sums = processes.add_up(torch.cat([of_bias, of_weight]))
        by_mean, by_variance = (part.view(by_channel) for part in (sums / total).to(weight.dtype).chunk(2))
        of_x = (gradient - by_mean - normalized * by_variance) * (weight * scale).view(by_channel)
        return of_x.to(x.dtype), of_weight, of_bias, None


def _all_but_channels(x: Tensor) -> list[int]:
    return [dimension for dimension in range(x.ndim) if dimension != 1]


def _running(norm: BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the running mean [C], the running variance [C] and the number of batches counted into them."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    return norm.running_mean, norm.running_var, norm.num_batches_tracked


def _nothing_recorded(norm: BatchNorm) -> Recorded:
    mean, variance, _ = _running(norm)
    return Recorded(torch.zeros_like(mean), torch.zeros_like(variance))
