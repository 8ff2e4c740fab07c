"""The one way from media to scores: decoded ahead in workers, grouped, sent through the model, averaged over views."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.results import results_in_order
from omnisource.data.loading.workers import WorkerPool
from omnisource.errors import UnreadableMedia, UserError
from omnisource.evaluation.exported.description import ExportedRecognizer
from omnisource.evaluation.precision import Precision, autocast, weight_type
from omnisource.evaluation.protocol import Protocol
from omnisource.models.recognizer import Recognizer
from omnisource.types import Clip, Media


@dataclass(frozen=True)
class Scored:
    """An item and what the heads say of it.

    Attributes:
        clip: All views of the item.
        scores: For each head [classes] float32 on the CPU: the softmax of the logits, averaged over the views; both in
            float64 where that is the precision.
    """

    clip: Clip
    scores: Mapping[str, Tensor]


class Classifier:
    """A recognizer on a device, in a precision, with a protocol: media in, scores out, in bounded memory.

    Args:
        recognizer: Moved to the device, and its weights to the type of the precision; an exported one stays as it is.
        protocol: Which views of each media are averaged, and by which heads they are judged.
        device: None: where the recognizer is.
        precision: Of the forward pass; that of the recipe gives the scores that validation and testing give.
    """

    def __init__(
        self,
        recognizer: Recognizer | ExportedRecognizer,
        protocol: Protocol,
        *,
        device: torch.device | None = None,
        precision: Precision = "float32",
    ) -> None:
        if isinstance(recognizer, Recognizer):
            device = next(recognizer.parameters()).device if device is None else device
            recognizer = recognizer.to(device, weight_type(precision))
        self.device = device or torch.device("cpu")
        self.recognizer = recognizer
        self.protocol = protocol
        self.precision: Precision = precision

    def classify(
        self, requests: Iterable[SampleRequest], workers: WorkerPool, *, is_grouped: bool = True
    ) -> Generator[tuple[SampleRequest, Scored | UnreadableMedia], None, None]:
        """Yields (request, scores or why there are none) in the order of the requests.

        Successive items of one media go through the model together, as many as have `views_at_a_time` views, at least
        one. Which items form a group follows from the order of those that can be read. Ahead of the model the workers
        load two items each, or items that together have no more than `views_at_a_time` views where that is more: these
        and the group in hand bound the memory.

        Args:
            requests: With the views of the protocol; their media must be in it.
            workers: Load the views.
            is_grouped: Whether items go through the model together, which is faster. Alone, the last bits of their
                scores do not depend on their neighbors, and each has its scores as soon as it is loaded.

        Raises:
            RuntimeError: If loading failed for a reason that is not the file's: a fault of the program.
        """
        protocol = self.protocol
        results = results_in_order(
            requests, workers, workers.num_busy_requests, protocol.views_at_a_time, protocol.num_views
        )
        group: list[tuple[SampleRequest, Clip | UnreadableMedia]] = []
        clips: list[Clip] = []  # of the group
        for request, result in results:
            if clips and isinstance(result, Clip) and not _is_alike(clips[0], result):
                yield from self._scored(group, clips)
                group, clips = [], []
            group.append((request, result))
            if isinstance(result, Clip):
                clips.append(result)
            # An unreadable item waits for the clips before it, so that it does not split their group.
            is_full = not clips or (len(clips) + 1) * len(clips[0].frames) > protocol.views_at_a_time
            if is_full or not is_grouped:
                yield from self._scored(group, clips)
                group, clips = [], []
        yield from self._scored(group, clips)

    @torch.inference_mode()
    def scores(self, clips: Sequence[Clip]) -> dict[str, Tensor]:
        """Returns what the heads of their media say of clips: by head [N, classes] float32 on the CPU.

        Args:
            clips: N clips of one media and one shape [V, 3, T, H, W]. More than `views_at_a_time` views go through the
                model in parts. The recognizer may be in training mode, and is again afterward.
        """
        media = clips[0].media
        heads = self.protocol.by_media[media].heads
        views = torch.cat([clip.frames for clip in clips])  # N x [V, 3, T, H, W] -> [N * V, 3, T, H, W]
        parts: dict[str, list[Tensor]] = {head: [] for head in heads}
        for chunk in views.split(self.protocol.views_at_a_time):
            for head, scores in self._view_scores(chunk, media, heads).items():
                parts[head].append(scores)
        # [N * V, K] -> [N, K]
        means = {head: torch.cat(parts[head]).unflatten(0, (len(clips), -1)).mean(dim=1) for head in heads}
        return {head: mean.float().cpu() for head, mean in means.items()}

    @torch.inference_mode()
    def features(self, clip: Clip) -> Tensor:
        """Returns the pooled features of each view of a clip: [V, C] float32 on the CPU.

        Raises:
            UserError: The recognizer is an exported one, which gives scores alone.
        """
        if not isinstance(self.recognizer, Recognizer):
            raise UserError("an exported file gives scores, and no features; give the checkpoint")
        parts = []
        with _evaluating(self.recognizer), autocast(self.device, self.precision):
            for chunk in clip.frames.split(self.protocol.views_at_a_time):
                parts.append(self.recognizer.features(chunk.to(self.device, non_blocking=True), clip.media))
        return torch.cat(parts).float().cpu()

    def _view_scores(self, views: Tensor, media: Media, heads: Sequence[str]) -> Mapping[str, Tensor]:
        """Returns the scores of each view, by head [N, classes]; views: [N, 3, T, H, W] uint8."""
        if not isinstance(self.recognizer, Recognizer):
            return self.recognizer.scores(views, media, heads)
        with _evaluating(self.recognizer):
            with autocast(self.device, self.precision):
                features = self.recognizer.features(views.to(self.device, non_blocking=True), media)
                logits = {head: self.recognizer.heads[head](features, media) for head in heads}
            return {head: values.to(weight_type(self.precision)).softmax(dim=1) for head, values in logits.items()}

    def _scored(
        self, group: Sequence[tuple[SampleRequest, Clip | UnreadableMedia]], clips: Sequence[Clip]
    ) -> Iterator[tuple[SampleRequest, Scored | UnreadableMedia]]:
        """Yields the items of a group, whose readable ones are `clips`, with their scores."""
        by_head = self.scores(clips) if clips else {}
        row = 0
        for request, result in group:
            if not isinstance(result, Clip):
                yield request, result
                continue
            yield request, Scored(result, {head: scores[row] for head, scores in by_head.items()})
            row += 1


def _is_alike(first: Clip, second: Clip) -> bool:
    return first.media == second.media and first.frames.shape == second.frames.shape


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Puts a module into evaluation mode for the time being."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
