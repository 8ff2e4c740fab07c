"""How media are classified: which of their views are averaged, by which heads, and how many views at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omnisource.data.loading.request import SampleRequest
from omnisource.recipe.data import ClipSampling, EvaluationViews, SplitName
from omnisource.recipe.recipe import Recipe
from omnisource.types import Media

PUBLISHED_VIEWS: Mapping[Media, EvaluationViews] = {
    "image": EvaluationViews(num_clips=1, num_crops=1, short_side=256, crop_size=224),
    "video": EvaluationViews(num_clips=10, num_crops=3, short_side=256, crop_size=256),
}
"""Views that the published checkpoints are tested with."""

PUBLISHED_VIEWS_AT_A_TIME = 30
"""One video."""


@dataclass(frozen=True)
class MediaProtocol:
    """How one media is looked at.

    Attributes:
        heads: Names of the heads that judge it.
        views: The views whose scores are averaged.
        sampling: How clips are taken from videos.
    """

    heads: tuple[str, ...]
    views: EvaluationViews
    sampling: ClipSampling

    def num_views(self, media: Media) -> int:
        """Returns the views of one item."""
        return self.views.num_crops * (self.views.num_clips if media == "video" else 1)


@dataclass(frozen=True)
class Protocol:
    """How media are looked at.

    Attributes:
        by_media: The protocol of each media; one that the recognizer was not trained on is missing.
        views_at_a_time: Views that go through the model at once; bounds its memory.
    """

    by_media: Mapping[Media, MediaProtocol]
    views_at_a_time: int

    def request(self, path: str, media: Media) -> SampleRequest:
        """Returns the request of the views of a file."""
        how = self.by_media[media]
        return SampleRequest("", media, path, path, 0, None, "", how.sampling, how.views)

    def num_views(self, request: SampleRequest) -> int:
        """Returns the views of what is requested."""
        return self.by_media[request.media].num_views(request.media)


def protocol_of_recipe(recipe: Recipe) -> Protocol:
    """Returns how files of any kind are looked at: with the views of testing, by all heads trained on their media."""
    by_media: dict[Media, MediaProtocol] = {}
    # The main source first: its views are the ones that count where sources of one media differ.
    for name in sorted(recipe.sources, key=lambda name: name != recipe.main_source):
        source = recipe.sources[name]
        known = by_media.get(source.media)
        if known is None:
            by_media[source.media] = MediaProtocol((source.label_space,), source.test_views, source.sampling)
        elif source.label_space not in known.heads:
            heads = (*known.heads, source.label_space)
            by_media[source.media] = MediaProtocol(heads, known.views, known.sampling)
    return Protocol(by_media, recipe.views_at_a_time)


def protocol_of_split(recipe: Recipe, source_name: str, split: SplitName) -> Protocol:
    """Returns how the validation or test items of a source are looked at: by the head of its label space."""
    source = recipe.sources[source_name]
    views = source.validation_views if split == "validation" else source.test_views
    of_media = MediaProtocol((source.label_space,), views, source.sampling)
    return Protocol({source.media: of_media}, recipe.views_at_a_time)


def published_protocol(heads: Mapping[str, Media]) -> Protocol:
    """Returns how the published checkpoints are tested.

    Args:
        heads: The media of each head.
    """
    by_media: dict[Media, MediaProtocol] = {
        media: MediaProtocol((head,), PUBLISHED_VIEWS[media], ClipSampling()) for head, media in heads.items()
    }
    return Protocol(by_media, PUBLISHED_VIEWS_AT_A_TIME)
