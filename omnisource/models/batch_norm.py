"""Batch normalization of images and videos: whose statistics a batch has, and when the running ones move.

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
from omnisource.models.moments import all_but_channels, joined_moments, moments_of, split_moments
from omnisource.types import Media

IMAGE_PREFIX = "image_"
"""Goes before the names of the running statistics that images have of their own."""


@dataclass(frozen=True)
class Running:
    """The running statistics of one media, tensors that are moved in place.

    Attributes:
        mean: [C].
        variance: [C].
        batches: How many batches were counted into them, int64.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor


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
        has_image_statistics: Whether images have running statistics of their own, in buffers beside the others.

    Attributes:
        has_image_statistics: As given.
        is_synchronized: Whether a batch is what all processes have at this place, set by `synchronize_batch_norm`.
        recorded: Takes the place of the running statistics of a media in the forward while `RunningStatistics` records.
        pooled: While `pooled_statistics` pools them, the moments of all counted batches by media; the running
            statistics stay as they are then.
    """

    image_running_mean: Tensor
    image_running_var: Tensor
    image_num_batches_tracked: Tensor

    def __init__(self, channels: int, momentum: float, *, has_image_statistics: bool = False) -> None:
        super().__init__(channels, eps=1e-5, momentum=momentum)
        self.has_image_statistics = has_image_statistics
        self.is_synchronized = False
        self.recorded: dict[Media, Recorded] | None = None
        self.pooled: dict[Media, Tensor] | None = None
        if has_image_statistics:
            self.register_buffer("image_running_mean", torch.zeros(channels))
            self.register_buffer("image_running_var", torch.ones(channels))
            self.register_buffer("image_num_batches_tracked", torch.tensor(0))

    def normalized(self, x: Tensor, media: Media, *, is_counted: bool = True) -> Tensor:
        """Returns x normalized, [N, C, ...]; in training by its own statistics, otherwise by the running ones.

        Args:
            x: [N, C, ...], floating point.
            media: Whose running statistics count where images have their own.
            is_counted: Whether, in training, its statistics are counted into the running ones.
        """
        is_synchronized = self.is_synchronized and processes.world_size() > 1  # then there is never a single value
        if not self.training or (x.numel() == self.num_features and not is_synchronized):
            running = self.running_of(media)
            return F.batch_norm(x, running.mean, running.variance, self.weight, self.bias, eps=self.eps)
        moving_mean, moving_variance = self._count_batch(x, media) if is_counted else (None, None)
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

    def running_by_media(self) -> dict[Media, Running]:
        """Returns the running statistics; those of images are there only if they are their own."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        by_media: dict[Media, Running] = {
            "video": Running(self.running_mean, self.running_var, self.num_batches_tracked)
        }
        if self.has_image_statistics:
            by_media["image"] = Running(self.image_running_mean, self.image_running_var, self.image_num_batches_tracked)
        return by_media

    def running_of(self, media: Media) -> Running:
        """Returns the running statistics that a media uses."""
        return self.running_by_media()[self._owner(media)]

    def _owner(self, media: Media) -> Media:
        return media if self.has_image_statistics else "video"

    def _count_batch(self, x: Tensor, media: Media) -> tuple[Tensor | None, Tensor | None]:
        """Counts one batch; returns the mean and the variance that it is to move, None where it moves none."""
        owner = self._owner(media)
        if self.pooled is not None:
            moments = moments_of(x.detach(), self.weight.dtype)
            before = self.pooled.get(owner)
            self.pooled[owner] = moments if before is None else joined_moments(torch.stack([before, moments]))
            return None, None
        if self.recorded is not None:
            recorded = self.recorded[owner]
            recorded.batches += 1
            return recorded.mean, recorded.variance
        running = self.running_of(media)
        running.batches.add_(1)
        return running.mean, running.variance


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
        self._recorded: list[Recorded] = []  # in the order of `_running`
        if not self._norms:
            return
        device = self._norms[0].running_of("video").mean.device
        momenta = [norm.momentum or 0.0 for norm in self._norms for _ in norm.running_by_media()]
        self._sizes = [2 * len(running.mean) for running in self._running()]  # a mean and a variance for every channel
        self._owner_of_value = torch.arange(len(momenta)).repeat_interleave(torch.tensor(self._sizes)).to(device)
        self._kept = torch.tensor([1 - momentum for momentum in momenta], dtype=torch.float64).to(device)

    def _running(self) -> list[Running]:
        return [running for norm in self._norms for running in norm.running_by_media().values()]

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Records the batches that are forwarded within; what a former step recorded and did not use is forgotten."""
        for norm in self._norms:
            norm.recorded = {media: _nothing_recorded(running) for media, running in norm.running_by_media().items()}
        self._recorded = [recorded for norm in self._norms for recorded in (norm.recorded or {}).values()]
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
        moved_in_place = self._running()
        running = torch.cat([value for one in moved_in_place for value in (one.mean, one.variance)])
        values = [value for recorded in self._recorded for value in (recorded.mean, recorded.variance)]
        batches = running.new_tensor([recorded.batches for recorded in self._recorded])
        self._recorded = []
        parts = processes.gather_tensors(torch.cat([*values, batches]))
        if any(norm.is_synchronized for norm in self._norms):
            parts = parts[:1]  # all processes have recorded the same
        counted = torch.zeros_like(batches)
        for part in parts:
            moved, batches = part.split([len(running), len(moved_in_place)])
            kept = (self._kept**batches).to(running.dtype)
            running = running * kept[self._owner_of_value] + moved
            counted += batches
        for one, values_of_one, count in zip(moved_in_place, running.split(self._sizes), counted.long(), strict=True):
            mean, variance = values_of_one.chunk(2)
            one.mean.copy_(mean)
            one.variance.copy_(variance)
            one.batches.add_(count)


def forget_counted_batches(module: nn.Module) -> None:
    """Sets the counts of batches to 0 wherever images have statistics of their own; the statistics stay as they are."""
    for norm in module.modules():
        if isinstance(norm, BatchNorm) and norm.has_image_statistics:
            for running in norm.running_by_media().values():
                running.batches.zero_()


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

    Source: Ioffe and Szegedy 2015, "Batch Normalization", section 3, for the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,  # torch gives its own kind of context
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # In float64 the counts are exact, and the joined statistics as good as those of the parts.
        parts = torch.stack(processes.gather_tensors(moments_of(x, weight.dtype)))
        joined, squares, total = split_moments(joined_moments(parts))
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
        of_bias = gradient.sum(dim=all_but_channels(x))
        of_weight = (gradient * normalized).sum(dim=all_but_channels(x))
        sums = processes.add_up(torch.cat([of_bias, of_weight]))
        by_mean, by_variance = (part.view(by_channel) for part in (sums / total).to(weight.dtype).chunk(2))
        of_x = (gradient - by_mean - normalized * by_variance) * (weight * scale).view(by_channel)
        return of_x.to(x.dtype), of_weight, of_bias, None


def _nothing_recorded(running: Running) -> Recorded:
    return Recorded(torch.zeros_like(running.mean), torch.zeros_like(running.variance))
