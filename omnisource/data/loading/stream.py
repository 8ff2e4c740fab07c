"""The endless stream of one source's training samples, in batches; a sample follows from its position alone."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from omnisource.data.lists.items import Items
from omnisource.data.loading.order import ClassTable, class_table, drawn_at, items_at
from omnisource.data.loading.request import SampleRequest, request_of
from omnisource.recipe.data import Source


class Stream:
    """The stream of one source: any of its batches, by number.

    Where every item comes once an epoch, the augmentation of a sample follows from its epoch and its item. Where items
    are drawn with replacement, one may come twice in an epoch: there the position stands in for the epoch.

    Args:
        name: Name of the source.
        source: Its description.
        items: Its training items.
        batch_size: Samples in a batch, at least 1; where it is fractional, batches have the number below or above it.
        seed: Seed of the run.
    """

    def __init__(self, name: str, source: Source, items: Items, batch_size: int | Fraction, seed: int) -> None:
        self.name = name
        self.source = source
        self.items = items
        self.batch_size = Fraction(batch_size)
        self.seed = seed
        self._classes: ClassTable | None = None
        if source.class_power != 1:
            self._classes = class_table(items.labels, source.class_power)

    def requests(self, microbatch: int) -> list[SampleRequest]:
        """Returns the requests of one batch.

        Args:
            microbatch: 0-based number of the microbatch in the run: step x microbatches a step + its index there.
        """
        first = first_position(self.batch_size, microbatch)
        length = first_position(self.batch_size, microbatch + 1) - first
        if self._classes is None:
            epochs, indices = items_at(self.seed, self.name, len(self.items), first, length)
        else:
            epochs = np.arange(first, first + length)
            indices = drawn_at(self.seed, self.name, self._classes, first, length)
        return [self.request(int(epoch), int(index)) for epoch, index in zip(epochs, indices, strict=True)]

    def request(self, epoch: int, index: int) -> SampleRequest:
        """Returns the request of one item with the augmentation that it has in `epoch`."""
        return request_of(self.name, self.source, "train", self.items, index, self.seed, epoch)

    def neighbor(self, request: SampleRequest) -> SampleRequest:
        """Returns the request that replaces an unreadable one: the next item of the list, in the same epoch."""
        return self.request(request.epoch, (request.index + 1) % len(self.items))


def first_position(batch_size: Fraction, microbatch: int) -> int:
    """Returns the position of the first sample of a microbatch in the stream, both 0-based."""
    return microbatch * batch_size.numerator // batch_size.denominator
