"""What one sample is asked for with: all that decides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from omnisource.data.lists.items import Items
from omnisource.files.byte_ranges import ByteRange
from omnisource.recipe.data import ClipSampling, EvaluationViews, Source, Split, SplitName, TrainingView, split_of
from omnisource.types import Media


class Request(Protocol):
    """What a worker is asked to load: anything that can be pickled and names its file, such as a `SampleRequest`."""

    @property
    def path(self) -> str:
        """The file, for messages."""
        ...


Load = Callable[[Any], Any]  # takes the requests that its pool is given


@dataclass(frozen=True)
class SampleRequest:
    """All that decides one sample, a pure function of its fields.

    Attributes:
        source: Name of the source.
        media: "image" or "video".
        path: File, or folder of raw frames, to read.
        key: The path as the list gives it.
        label: Class index.
        num_frames: Frames in a folder of raw frames; None for files.
        frame_template: File name of a raw frame, given its number.
        sampling: How clips are taken from videos.
        view: The random view of training, or the fixed views of evaluation.
        seed: Seed of the run; only training is random.
        epoch: Epoch of the source.
        index: Index of the item in the source's list.
        byte_range: Where the bytes of the file lie in a shard; None for files of their own.
    """

    source: str
    media: Media
    path: str
    key: str
    label: int
    num_frames: int | None
    frame_template: str
    sampling: ClipSampling
    view: TrainingView | EvaluationViews
    seed: int = 0
    epoch: int = 0
    index: int = 0
    byte_range: ByteRange | None = None


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
        byte_range=item.byte_range,
        frame_template=described.frame_template if isinstance(described, Split) else "",
        sampling=source.sampling,
        view=views[split],
        seed=seed,
        epoch=epoch,
        index=index,
    )
