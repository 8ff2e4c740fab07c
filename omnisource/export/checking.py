"""Whether an exported program says what the recognizer says: both are asked about the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from omnisource.data.loading.sample import load_clip
from omnisource.errors import UserError
from omnisource.evaluation.classifier import Classifier
from omnisource.evaluation.predict import media_files
from omnisource.evaluation.protocol import MediaProtocol, Protocol
from omnisource.types import Clip, Media

TOLERANCE = 1e-4
"""Scores, which lie in [0, 1], may differ by so much."""

NUM_MADE = 4
"""Clips of each media that are made where none are given."""


@dataclass(frozen=True)
class Comparison:
    """How two recognizers differ.

    Attributes:
        num_clips: Clips that both were asked about, by media.
        are_made: Whether the clips are made, and not read from files.
        largest: The largest difference of two scores.
        num_compared: How many times both named a class: once a clip and head.
        num_same: How many times it was the same; scores closer than the tolerance count as equal.
    """

    num_clips: Mapping[Media, int]
    are_made: bool
    largest: float
    num_compared: int
    num_same: int

    @property
    def agrees(self) -> bool:
        """Whether the scores are the same but for rounding."""
        return self.largest <= TOLERANCE and self.num_same == self.num_compared

    def __str__(self) -> str:
        counts = " and ".join(f"{count} {media}{'s' * (count > 1)}" for media, count in self.num_clips.items())
        origin = " that it made itself" if self.are_made else ""
        return (
            f"largest difference of a score {self.largest:.1e}, same top-1 {self.num_same} of {self.num_compared}, "
            f"on {counts}{origin}"
        )


def made_clips(protocol: Protocol) -> dict[Media, list[Clip]]:
    """Returns soft shapes that drift, for each media of a protocol; they are the same every time."""
    generator = torch.Generator().manual_seed(0)
    return {
        media: [_made_clip(media, how, generator) for _ in range(NUM_MADE)] for media, how in protocol.by_media.items()
    }


def read_clips(protocol: Protocol, paths: Sequence[str]) -> dict[Media, list[Clip]]:
    """Returns the views of files, and of all files below folders, by media.

    Raises:
        UserError: A file cannot be read, or a media of the protocol has none.
    """
    clips: dict[Media, list[Clip]] = {media: [] for media in protocol.by_media}
    for file in media_files(paths):
        if file.media in clips:
            clips[file.media].append(load_clip(protocol.request(file.path, file.media)))
    for media, found in clips.items():
        if not found:
            raise UserError(f"--clips: there is no {media} among them, so that the {media} path would go unchecked")
    return clips


def compare(
    classifier: Classifier, exported: Classifier, clips: Mapping[Media, Sequence[Clip]], *, are_made: bool
) -> Comparison:
    """Returns how two classifiers of one protocol differ; one is asked about all clips at once, as far as they fit."""
    largest, num_compared, num_same = 0.0, 0, 0
    for of_media in clips.values():
        for alike in _alike(of_media):
            expected, found = classifier.scores(alike), exported.scores(alike)
            for head, scores in expected.items():
                difference = (found[head] - scores).abs().amax().item()
                largest = max(largest, difference if difference == difference else float("inf"))
                named = scores.gather(1, found[head].argmax(dim=1, keepdim=True))[:, 0]  # what ours gives their class
                num_same += int((named >= scores.amax(dim=1) - TOLERANCE).sum())
                num_compared += len(scores)
    return Comparison({media: len(found) for media, found in clips.items()}, are_made, largest, num_compared, num_same)


def _alike(clips: Sequence[Clip]) -> list[list[Clip]]:
    """Returns clips in groups of one shape."""
    groups: dict[torch.Size, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.frames.shape, []).append(clip)
    return list(groups.values())


def _made_clip(media: Media, how: MediaProtocol, generator: torch.Generator) -> Clip:
    size, length = how.views.crop_size, 1 if media == "image" else how.sampling.clip_length
    views = min(2, how.num_views(media))
    coarse = torch.rand((views * 3, 1, 3, 4, 4), generator=generator)
    fine = functional.interpolate(coarse, (length, size, size), mode="trilinear")
    frames = (fine[:, 0] * 255).round().to(torch.uint8).unflatten(0, (views, 3))
    return Clip(frames.contiguous(), 0, "made", media)
