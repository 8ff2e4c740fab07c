"""The two values that travel through the house, a decoded `Clip` and a collated `Batch`, and the types of small ones.

The recipe stands on this module, so it imports torch for type checkers only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Media = Literal["image", "video"]

Progress = Callable[[int, int], None]
"""Called as long work goes on, with how many of its parts are done and how many there are."""


@dataclass(frozen=True)
class Clip:
    """One decoded and transformed item.

    Attributes:
        frames: [V, 3, T, H, W] uint8, 0-255, RGB; V views, T = 1 for images.
        label: Class index in the label space of the item's source.
        key: Where the item came from: the path as its list gives it.
        media: "image" or "video".
    """

    frames: Tensor
    label: int
    key: str
    media: Media

    def __post_init__(self) -> None:
        _check_frames(self.frames, dimensions=5, layout="[V, 3, T, H, W]", media=self.media)

    def __repr__(self) -> str:
        return f"Clip(key={self.key!r}, label={self.label}, media={self.media!r}, frames={_summary(self.frames)})"


@dataclass(frozen=True)
class Batch:
    """Clips of one source, collated.

    Attributes:
        source: Name of the source.
        media: "image" or "video": which path through the backbone the clips take.
        head: Name of the label space, and so of the head, that the labels belong to.
        clips: [N, V, 3, T, H, W] uint8, 0-255, RGB; T = 1 for images.
        labels: [N] int64 class indices, or [N, classes] floating point weights that sum to 1 for mixed samples.
        keys: N keys, in the order of the clips.
    """

    source: str
    media: Media
    head: str
    clips: Tensor
    labels: Tensor
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_frames(self.clips, dimensions=6, layout="[N, V, 3, T, H, W]", media=self.media)
        if not (len(self.clips) == len(self.labels) == len(self.keys)):
            raise ValueError(
                f"a batch needs as many labels and keys as clips, got {len(self.clips)} clips, "
                f"{len(self.labels)} labels and {len(self.keys)} keys"
            )

    def to(self, device: torch.device) -> Batch:
        """Returns the batch with its tensors on `device`."""
        return dataclasses.replace(
            self,
            clips=self.clips.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )

    def split(self) -> list[Clip]:
        """Returns the samples of a batch whose labels are class indices; they share its memory."""
        labels = self.labels.tolist()
        samples = zip(self.clips, labels, self.keys, strict=True)
        return [Clip(frames, label, key, self.media) for frames, label, key in samples]

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        return (
            f"Batch(source={self.source!r}, media={self.media!r}, head={self.head!r}, "
            f"clips={_summary(self.clips)}, labels={_summary(self.labels)})"
        )


def _check_frames(frames: Tensor, dimensions: int, layout: str, media: Media) -> None:
    if str(frames.dtype) != "torch.uint8" or frames.ndim != dimensions or frames.shape[-4] != 3:
        raise ValueError(f"frames must be {layout} uint8, got {_summary(frames)}")
    if media == "image" and frames.shape[-3] != 1:
        raise ValueError(f"an image has T = 1 in {layout}, got {_summary(frames)}")


def _summary(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
