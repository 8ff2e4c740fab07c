"""A source: the frozen description of a dataset, and the seekable stream of batches opened from it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from omnisource.data.annotations import Items, Split, class_names_of_folders, read_class_names
from omnisource.data.frames import ClipSampling
from omnisource.data.order import items_at
from omnisource.data.pipeline import SampleRequest
from omnisource.data.transforms import EvaluationViews, TrainingView
from omnisource.data.workers import WorkerPool
from omnisource.errors import UnreadableMedia, UserError, shortened
from omnisource.types import Batch, Clip, Media


@dataclass(frozen=True)
class Source:
    """One dataset of a recipe."""

    media: Media
    """What the items are: "image" or "video" (raw frames count as video)."""

    label_space: str
    """Name of the label space that the labels belong to."""

    root: str
    """Folder of the dataset; the other paths of the source start from it."""

    train: Split
    """Items to train on."""

    validation: Split | None = None
    """Items to validate on, every few epochs. None: not validated."""

    test: Split | None = None
    """Items to test on. None: the validation items."""

    classes: str = ""
    """Class map below the root: `name index` or one name a line. Empty: the names of the class folders, where the
    format is "folders", and no names otherwise."""

    batch_size: int | None = None
    """Samples in a microbatch. None: from `ends_with`."""

    ends_with: str = ""
    """Name of the source that this one ends an epoch together with; its batch size then follows from the counts."""

    loss_weight: float = 1.0
    """Factor on the loss of this source in the sum."""

    sampling: ClipSampling = field(default_factory=ClipSampling)
    """How clips are taken from videos."""

    training_view: TrainingView = field(default_factory=TrainingView)
    """The random view taken in training."""

    validation_views: EvaluationViews = field(default_factory=EvaluationViews)
    """The views averaged in validation."""

    test_views: EvaluationViews = field(default_factory=EvaluationViews)
    """The views averaged in testing."""


SplitName = Literal["train", "validation", "test"]


def split_of(source: Source, split: SplitName) -> Split | None:
    """Returns the split of that name; testing falls back to the validation items."""
    if split == "test":
        return source.test or source.validation
    return source.train if split == "train" else source.validation


def class_names_of(source: Source) -> tuple[str, ...] | None:
    """Returns the names of a source's classes in the order of their indices, or None where it has none.

    Raises:
        UserError: If the class map or the folder is missing or wrong.
    """
    if source.classes:
        return read_class_names(os.path.join(source.root, source.classes))
    if source.train.format == "folders":
        return class_names_of_folders(os.path.join(source.root, source.train.folder))
    return None


class Stream:
    """The endless stream of one source's training samples, in batches; a sample follows from its position alone.

    Args:
        name: Name of the source.
        source: Its description.
        items: Its training items.
        batch_size: Samples in a batch.
        seed: Seed of the run.
    """

    def __init__(self, name: str, source: Source, items: Items, batch_size: int, seed: int) -> None:
        self.name = name
        self.source = source
        self.items = items
        self.batch_size = batch_size
        self.seed = seed

    def requests(self, microbatch: int) -> list[SampleRequest]:
        """Returns the requests of one batch.

        Args:
            microbatch: 0-based number of the microbatch in the run: step x microbatches a step + its place there.
        """
        first = microbatch * self.batch_size
        epochs, indices = items_at(self.seed, self.name, len(self.items), first, self.batch_size)
        return [self.request(int(epoch), int(index)) for epoch, index in zip(epochs, indices, strict=True)]

    def request(self, epoch: int, index: int) -> SampleRequest:
        """Returns the request of one item with the augmentation that it has in `epoch`."""
        return request_of(self.name, self.source, "train", self.items, index, self.seed, epoch)

    def neighbour(self, request: SampleRequest) -> SampleRequest:
        """Returns the request that replaces an unreadable one: the next item of the list, in the same epoch."""
        return self.request(request.epoch, (request.index + 1) % len(self.items))


@dataclass
class UnreadableLog:
    """The files that could not be read, and how many of them a run permits.

    Attributes:
        permitted: Files that may be unreadable before the run stops.
        reasons: Reason by path.
        notify: Called with one line for each file that is new.
    """

    permitted: int
    reasons: dict[str, str] = field(default_factory=dict)
    notify: Callable[[str], None] = print

    def add(self, error: UnreadableMedia, consequence: str) -> None:
        """Counts a file, or raises where no more are permitted.

        Raises:
            UserError: If more files are unreadable than the recipe permits.
        """
        if error.path in self.reasons:
            return
        self.reasons[error.path] = error.reason
        if len(self.reasons) > self.permitted:
            files = [f"{path}: {reason}" for path, reason in self.reasons.items()]
            raise UserError(
                f"{shortened(files)}\n{len(files)} unreadable, {self.permitted} permitted. Mend or remove the files "
                "(omnisource check CONFIG finds them all), or permit more with max_unreadable=N."
            )
        self.notify(f"unreadable ({len(self.reasons)} of {self.permitted} permitted), {consequence}: {error}")


class Loader:
    """Iterates over the steps of a run: for each, its microbatches, each one batch of every source.

    Args:
        streams: One a source, in the order in which the recognizer takes their batches.
        workers: Loads the samples.
        microbatches: Microbatches in a step, over all processes.
        mine: Those of them that this process loads, 0-based.
        unreadable: Takes note of files that cannot be read.
        prefetch_steps: Steps that are requested ahead of the one returned.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        workers: WorkerPool,
        microbatches: int,
        mine: Sequence[int],
        unreadable: UnreadableLog,
        prefetch_steps: int = 2,
    ) -> None:
        self.streams = list(streams)
        self.workers = workers
        self.microbatches = microbatches
        self.mine = list(mine)
        self.unreadable = unreadable
        self.prefetch_steps = prefetch_steps
        self._step = 0
        self._requested: deque[list[list[list[tuple[SampleRequest, int]]]]] = deque()

    def seek(self, step: int) -> None:
        """Makes `step` (0-based) the next step to be returned."""
        for microbatches in self._requested:
            for _, ticket in (pair for batches in microbatches for batch in batches for pair in batch):
                self.workers.discard(ticket)
        self._requested.clear()
        self._step = step

    def __iter__(self) -> Iterator[list[tuple[Batch, ...]]]:
        return self

    def __next__(self) -> list[tuple[Batch, ...]]:
        """Returns the next step: for each microbatch of this process the batches, in the order of the streams."""
        while len(self._requested) <= self.prefetch_steps:
            self._requested.append(self._request_step(self._step + len(self._requested)))
        step = [
            tuple(self._collect(stream, batch) for stream, batch in zip(self.streams, batches, strict=True))
            for batches in self._requested[0]
        ]
        self._requested.popleft()  # only now, so that after an interrupt `seek` gives up what was not fetched
        self._step += 1
        return step

    def _request_step(self, step: int) -> list[list[list[tuple[SampleRequest, int]]]]:
        numbers = [step * self.microbatches + place for place in self.mine]
        return [
            [
                [(request, self.workers.submit(request)) for request in stream.requests(number)]
                for stream in self.streams
            ]
            for number in numbers
        ]

    def _collect(self, stream: Stream, batch: list[tuple[SampleRequest, int]]) -> Batch:
        clips = [self._readable(stream, request, self.workers.result(ticket)) for request, ticket in batch]
        return collate(stream.name, stream.source, clips)

    def _readable(self, stream: Stream, request: SampleRequest, result: Clip | UnreadableMedia) -> Clip:
        for _ in range(len(stream.items)):
            if isinstance(result, Clip):
                return result
            self.unreadable.add(result, "replaced by the next item of its list")
            request = stream.neighbour(request)
            result = self.workers.result(self.workers.submit(request))
        raise UserError(f"source {stream.name}: none of its {len(stream.items)} items can be read")


def collate(name: str, source: Source, clips: Sequence[Clip]) -> Batch:
    """Returns clips of one source as a batch."""
    return Batch(
        source=name,
        media=source.media,
        head=source.label_space,
        clips=torch.stack([clip.frames for clip in clips]),
        labels=torch.tensor([clip.label for clip in clips], dtype=torch.int64),
        keys=tuple(clip.key for clip in clips),
    )


def evaluation_clips(
    name: str,
    source: Source,
    split: SplitName,
    items: Items,
    indices: Sequence[int],
    workers: WorkerPool,
    ahead: int,
) -> Iterator[tuple[int, Clip | UnreadableMedia]]:
    """Yields (index, clip with all its views, or why there is none) for `indices`, in that order.

    Args:
        name: Name of the source.
        source: Its description; `split` chooses between its validation and its test views.
        split: "validation" or "test".
        items: Items of that split.
        indices: Which of them.
        workers: Loads them.
        ahead: Items that are requested ahead, which bounds the memory.
    """
    requests = (request_of(name, source, split, items, index) for index in indices)
    for request, result in results_in_order(requests, workers, ahead):
        yield request.index, result


def results_in_order(
    requests: Iterable[SampleRequest], workers: WorkerPool, ahead: int
) -> Iterator[tuple[SampleRequest, Any]]:
    """Yields (request, what the workers made of it) in the order of the requests, `ahead` of which are under way."""
    under_way: deque[tuple[SampleRequest, int]] = deque()
    coming = iter(requests)
    try:
        while True:
            while len(under_way) <= ahead and (request := next(coming, None)) is not None:
                under_way.append((request, workers.submit(request)))
            if not under_way:
                return
            request, ticket = under_way.popleft()
            yield request, workers.result(ticket)
    finally:
        for _, ticket in under_way:  # of a caller that does not want the rest
            workers.discard(ticket)


def request_of(
    name: str, source: Source, split: SplitName, items: Items, index: int, seed: int = 0, epoch: int = 0
) -> SampleRequest:
    """Returns the request of one item of a split, with the view or views of that split."""
    item = items[index]
    views = {"train": source.training_view, "validation": source.validation_views, "test": source.test_views}
    described = split_of(source, split)
    assert described is not None, f"source {name} has no {split} items"
    return SampleRequest(
        source=name,
        media=source.media,
        path=item.path,
        key=item.key,
        label=item.label,
        num_frames=item.num_frames,
        frame_template=described.frame_template,
        sampling=source.sampling,
        view=views[split],
        seed=seed,
        epoch=epoch,
        index=index,
    )
