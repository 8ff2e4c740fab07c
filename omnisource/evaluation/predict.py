"""A trained recognizer back from its file, and what it says of images and videos."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from omnisource.checkpoints.file import FORMAT, as_checkpoint
from omnisource.data.lists.media_files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, media_by_suffix
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import load_clip
from omnisource.errors import UserError
from omnisource.models.backbones.backbone import Backbone
from omnisource.models.backbones.build import build_backbone
from omnisource.models.recognizer import Recognizer
from omnisource.models.weights.load import load_into, state_dict_in
from omnisource.models.weights.own import OWN, required_average
from omnisource.models.weights.published import PUBLISHED, from_published, sizes_of
from omnisource.models.weights.read import read_weights_file
from omnisource.recipe.data import ClipSampling, EvaluationViews
from omnisource.recipe.model import LabelSpace, Model
from omnisource.recipe.plain import from_plain
from omnisource.recipe.recipe import Recipe
from omnisource.types import Media

PUBLISHED_HEADS: Mapping[Media, str] = {"image": "image", "video": "video"}
"""Names that the heads of a published checkpoint get, by their media."""


@dataclass(frozen=True)
class ViewsOfMedia:
    """How one media is looked at: which views are averaged, by which heads they are judged."""

    heads: tuple[str, ...]
    views: EvaluationViews
    sampling: ClipSampling


@dataclass(frozen=True)
class Loaded:
    """A recognizer and what its checkpoint says about its use.

    Attributes:
        recognizer: In evaluation mode, on the CPU.
        class_names: Class names by label space; the indices where the checkpoint has no names.
        views: How images and videos are looked at; a media that the recognizer was not trained on is missing.
        views_at_a_time: Views to be sent through the model at once.
    """

    recognizer: Recognizer
    class_names: Mapping[str, tuple[str, ...]]
    views: Mapping[Media, ViewsOfMedia]
    views_at_a_time: int


def load_recognizer(
    path: str | Path, *, average: bool = False, build_backbone: Callable[[Model], Backbone] = build_backbone
) -> Recognizer:
    """Returns the recognizer of a checkpoint, ready for evaluation, on the CPU.

    Args:
        path: One of our own checkpoints, or a published .pth; the sizes are read from the weights. A published one
            has the label spaces "image" and "video".
        average: Whether to take the moving average of the weights in place of the weights.
        build_backbone: Builds the backbone that the recipe of one of our own checkpoints describes.

    Raises:
        UserError: If the file is missing, truncated, of another format, or names something that could run code; if it
            has no average.
    """
    return load(path, average=average, build_backbone=build_backbone).recognizer


def load(
    path: str | Path, *, average: bool = False, build_backbone: Callable[[Model], Backbone] = build_backbone
) -> Loaded:
    """Returns the recognizer of a checkpoint with its class names and the views it is tested with.

    Args:
        path: As for `load_recognizer`.
        average: Whether to take the moving average of the weights in place of the weights.
        build_backbone: Builds the backbone that the recipe of one of our own checkpoints describes.

    Raises:
        UserError: If the file is missing, truncated, of another format, or names something that could run code; if it
            has no average.
    """
    path = Path(path)
    content = read_weights_file(path)
    if content.get("format") == FORMAT:
        checkpoint = as_checkpoint(content)
        state = required_average(checkpoint.state, str(path)) if average else checkpoint.state["model"]
        return _load_own(path, checkpoint.recipe, checkpoint.class_names, state, build_backbone)
    if average:
        required_average(None, str(path))
    if path.suffix == ".safetensors" and "recipe" in (metadata := _metadata(path)):
        own = json.loads(metadata["recipe"]), json.loads(metadata["class_names"])
        return _load_own(path, *own, content, build_backbone)
    return _load_published(path, content)


def _metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "pt") as file:
        return file.metadata() or {}


def _load_own(
    path: Path,
    plain_recipe: Mapping[str, Any],
    class_names: Mapping[str, Sequence[str]],
    state: Mapping[str, Tensor],
    build_backbone: Callable[[Model], Backbone],
) -> Loaded:
    recipe = from_plain(Recipe, plain_recipe, str(path))
    recognizer = Recognizer(recipe.model, recipe.label_spaces, backbone=build_backbone(recipe.model))
    load_into(recognizer, state, origin=str(path), strict=True)
    views: dict[Media, ViewsOfMedia] = {}
    # The main source first: its views are the ones that count where sources of one media differ.
    for name in sorted(recipe.sources, key=lambda name: name != recipe.main_source):
        source = recipe.sources[name]
        known = views.get(source.media)
        if known is None:
            views[source.media] = ViewsOfMedia((source.label_space,), source.test_views, source.sampling)
        elif source.label_space not in known.heads:
            heads = (*known.heads, source.label_space)
            views[source.media] = ViewsOfMedia(heads, known.views, known.sampling)
    names = {space: tuple(of_space) for space, of_space in class_names.items()}
    return Loaded(recognizer.eval(), names, views, recipe.views_at_a_time)


def _load_published(path: Path, content: Mapping[str, Any]) -> Loaded:
    state = state_dict_in(content, str(path), (PUBLISHED, OWN))
    state = from_published(state, PUBLISHED_HEADS["image"], PUBLISHED_HEADS["video"])
    try:
        sizes = sizes_of(state)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if not sizes.heads:
        raise UserError(f"{path}: a backbone without heads classifies nothing; train from it with model.weights={path}")
    protocols: dict[Media, EvaluationViews] = {
        "image": EvaluationViews(num_clips=1, num_crops=1, short_side=256, crop_size=224),
        "video": EvaluationViews(num_clips=10, num_crops=3, short_side=256, crop_size=256),
    }
    spaces = {name: LabelSpace(head=size.kind, num_classes=size.num_classes) for name, size in sizes.heads.items()}
    views: dict[Media, ViewsOfMedia] = {
        size.kind: ViewsOfMedia((name,), protocols[size.kind], ClipSampling()) for name, size in sizes.heads.items()
    }
    recognizer = Recognizer(Model(depth=sizes.depth, width=sizes.width), spaces)
    load_into(recognizer, state, origin=str(path), strict=True)
    names = {head: tuple(str(index) for index in range(space.num_classes or 0)) for head, space in spaces.items()}
    return Loaded(recognizer.eval(), names, views, views_at_a_time=30)


@dataclass(frozen=True)
class Prediction:
    """What one head says of one file.

    Attributes:
        path: The file.
        head: Name of the label space.
        top: (class name, score in [0, 1]), highest first.
    """

    path: str
    head: str
    top: tuple[tuple[str, float], ...]


def media_files(paths: Sequence[str]) -> list[tuple[str, Media]]:
    """Returns (file, media) for files and, in alphabetical order, for all images and videos below folders.

    Raises:
        UserError: If a path is missing, a file is neither image nor video by its suffix, or a folder has none.
    """
    found: list[tuple[str, Media]] = []
    for given in paths:
        path = Path(given)
        if path.is_dir():
            inside: list[tuple[str, Media]] = [
                (str(file), media)
                for file in sorted(path.rglob("*"))
                if file.is_file() and (media := media_by_suffix(str(file)))
            ]
            if not inside:
                raise UserError(f"{given}: the folder has no images or videos")
            found += inside
        elif not path.is_file():
            raise UserError(f"{given}: no such file or folder")
        elif (media := media_by_suffix(str(path))) is None:
            known = " ".join(sorted({*IMAGE_SUFFIXES, *VIDEO_SUFFIXES}))
            raise UserError(f"{given}: neither an image nor a video by its suffix; known are {known}")
        else:
            found.append((given, media))
    return found


def predict(loaded: Loaded, path: str, media: Media, top: int) -> Iterator[Prediction]:
    """Yields what each head trained on this media says of a file.

    Args:
        loaded: The recognizer.
        path: Image or video file.
        media: Which of the two.
        top: Classes to name; fewer where the head has fewer.

    Raises:
        UnreadableMedia: If the file cannot be decoded.
        UserError: If the recognizer was not trained on this media.
    """
    if media not in loaded.views:
        raise UserError(f"{path}: the recognizer was not trained on {media}s, but on {', '.join(loaded.views)}s")
    how = loaded.views[media]
    request = SampleRequest("predict", media, path, path, 0, None, "", how.sampling, how.views)
    views = load_clip(request).frames  # [V, 3, T, H, W]
    for head in how.heads:
        scores = averaged_scores(loaded.recognizer, views, media, head, loaded.views_at_a_time)
        best = scores.topk(min(top, len(scores)))
        names = loaded.class_names[head]
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        yield Prediction(path, head, tuple((names[index], score) for score, index in pairs))


@torch.inference_mode()
def averaged_scores(recognizer: Recognizer, views: Tensor, media: Media, head: str, views_at_a_time: int) -> Tensor:
    """Returns the softmax scores of one item, averaged over its views: [classes] float32 on the CPU.

    Args:
        recognizer: In evaluation mode.
        views: [V, 3, T, H, W] uint8.
        media: Which path the views take.
        head: Name of the label space.
        views_at_a_time: Views to be sent through the model at once.
    """
    device = next(recognizer.parameters()).device
    logits = [recognizer.logits(part.to(device), media, head) for part in views.split(views_at_a_time)]
    return torch.cat(logits).float().softmax(dim=1).mean(dim=0).cpu()
