"""BatchNorm's statistics computed again, over all values of several batches, with weights that stand still.

The running statistics are an average over batches that had other weights. Over many steps that does not matter; in a
short run, or with weights that change quickly, they lag.

Source: facebookresearch/fvcore, fvcore/nn/precise_bn.py, for the idea; here the values of all batches are pooled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from omnisource.distributed import processes
from omnisource.models.batch_norm import IMAGE_PREFIX, BatchNorm
from omnisource.models.moments import joined_moments, split_moments
from omnisource.types import Media


class PooledStatistics:
    """Pools what a module's `BatchNorm`s see in training mode; their running statistics stay as they are.

    Which batches count is as in training: those of a single value a channel do not.

    Example:
        pooled = PooledStatistics(model)
        for batches in ...:
            with pooled.pooling():
                model(batches)
        buffers = pooled.combine()

    Args:
        module: Is on its device.
    """

    def __init__(self, module: nn.Module) -> None:
        self._norms = {name: norm for name, norm in module.named_modules() if isinstance(norm, BatchNorm)}
        self._moments: dict[str, dict[Media, Tensor]] = {name: {} for name in self._norms}

    @contextlib.contextmanager
    def pooling(self) -> Iterator[None]:
        """Pools the batches that are forwarded within, with those of before."""
        for name, norm in self._norms.items():
            norm.pooled = self._moments[name]
        try:
            yield
        finally:
            for norm in self._norms.values():
                norm.pooled = None

    @torch.no_grad()
    def combine(self) -> dict[str, Tensor]:
        """Returns the statistics over the batches of all processes; called by all of them together.

        One collective; none without BatchNorm.

        Returns:
            Means and unbiased variances by the names of the buffers that take them, without those for which no batch
            was counted.
        """
        if not self._norms:
            return {}
        places: list[tuple[str, BatchNorm, Media]] = [
            (name, norm, media) for name, norm in self._norms.items() for media in norm.running_by_media()
        ]
        own = [self._moments[name].get(media, _no_moments(norm)) for name, norm, media in places]
        parts = torch.stack(processes.gather_tensors(torch.cat(own))).split([len(one) for one in own], dim=1)
        buffers: dict[str, Tensor] = {}
        for (name, norm, media), of_processes in zip(places, parts, strict=True):
            if of_processes[:, -1].sum() < 2:  # one value has no variance
                continue
            mean, squares, count = split_moments(joined_moments(of_processes))
            prefix = f"{name}.{IMAGE_PREFIX if media == 'image' else ''}".removeprefix(".")
            dtype = norm.running_of(media).mean.dtype
            buffers[f"{prefix}running_mean"] = mean.to(dtype)
            buffers[f"{prefix}running_var"] = (squares / (count - 1)).to(dtype)
        return buffers


def _no_moments(norm: BatchNorm) -> Tensor:
    return norm.running_of("video").mean.new_zeros(2 * norm.num_features + 1, dtype=torch.float64)
