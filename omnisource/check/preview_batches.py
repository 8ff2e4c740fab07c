"""Contact sheets of the first training batches: what goes into the model, and what it was made of."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.nn import functional

from omnisource.check.preview_sheet import (
    MARK,
    DrawnSample,
    crossed_out,
    draw_sheet,
    outlined,
    shown_positions,
)
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_splits
from omnisource.data.loading.collating import collate
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.results import results_in_order
from omnisource.data.loading.sample import content_of, load_clip, picked_frames, viewed
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.workers import WorkerPool
from omnisource.data.missing import require_data
from omnisource.data.transforms.mixing import mix_batches
from omnisource.data.transforms.views import random_resized_crop_box
from omnisource.errors import UnreadableMedia, UserError
from omnisource.recipe.data import TrainingView
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.pictures import has_mark
from omnisource.reporting.progress import progress_bar
from omnisource.training.plan import make_plan
from omnisource.types import Batch, Clip

MAX_SAMPLES = 16
"""Most samples on a sheet."""

MIN_SAMPLES = 8
"""Fewest samples on a sheet: where a microbatch has fewer, further ones are loaded."""


@dataclass(frozen=True)
class Sample:
    """One training sample and what it was made of.

    Attributes:
        clip: As training loads it.
        frames: [T, h, w, 3] uint8: the frames that were decoded, small, with the outline of the crop; T is at most
            `MAX_FRAMES`.
    """

    clip: Clip
    frames: np.ndarray


def draw_batches(recipe: Recipe, config_path: str, folder: Path) -> list[Path]:
    """Draws a contact sheet of every source's first training batches and returns their paths, in the sources' order.

    The samples are those of a run of one process: the same items, frames, augmentation and mixing. Beside or below each
    stands what was decoded, with an outline of the crop. A file that cannot be read is reported in place of its
    sample. Earlier sheets are replaced.

    Args:
        recipe: The recipe.
        config_path: How errors name it.
        folder: Where the sheets go, as NAME OF THE SOURCE.png; made where it is missing.

    Raises:
        UserError: If the folder cannot be written to or has files of others, or the data or its lists are missing or
            wrong.
    """
    require_own(recipe, folder)
    require_data(recipe, ("train",), config_path)
    recipe, class_names = resolve_classes(recipe)
    items = read_splits(recipe, class_names, "train")
    plan = make_plan(recipe, {name: len(of_source) for name, of_source in items.items()}, num_processes=1)
    streams = {
        name: Stream(name, source, items[name], plan.batch_sizes[name], recipe.seed)
        for name, source in recipe.sources.items()
    }
    paths = _sheets(recipe, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with WorkerPool(
        recipe.num_workers,
        recipe.item_timeout_seconds,
        load=load_sample,
        item_processor_seconds=recipe.item_processor_seconds,
    ) as workers:
        for name, path in paths.items():
            samples = first_samples(recipe, name, streams, plan.microbatches, workers)
            draw_sheet(name, samples, class_names[recipe.sources[name].label_space], recipe.seed, path)
    return list(paths.values())


def require_own(recipe: Recipe, folder: Path) -> None:
    """Refuses a folder for the sheets in which files of others have the names of ours.

    Raises:
        UserError: If there are such files, or it cannot be written to.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"--pictures {folder}: {nearest} is no folder that can be written to; name another one")
    foreign = [str(path) for path in _sheets(recipe, folder).values() if path.exists() and not has_mark(path, MARK)]
    if foreign:
        raise UserError(
            f"--pictures {folder}: {', '.join(foreign)}: not written by this command, which replaces nothing else; "
            "move it away, or name another folder"
        )


def _sheets(recipe: Recipe, folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.png" for name in recipe.sources}


def load_sample(request: SampleRequest) -> Sample:
    """Returns the training sample of a request, and small copies of the frames that it was made of.

    Raises:
        UnreadableMedia: If the file cannot be decoded.
    """
    assert isinstance(request.view, TrainingView)
    content = content_of(request)
    frames, rng = picked_frames(request, content)
    # The crop is the first that the view draws; the view itself must draw it again, from where the frames left off.
    box = random_resized_crop_box(frames.shape[1], frames.shape[2], request.view, copy.deepcopy(rng))
    clip = load_clip(request, content) if request.media == "image" else viewed(request, frames, rng)
    return Sample(clip, outlined(frames[shown_positions(len(frames))], box, request.view.crop_size))


def first_samples(
    recipe: Recipe, name: str, streams: Mapping[str, Stream], microbatches: int, workers: WorkerPool
) -> list[DrawnSample]:
    """Returns the first training samples of a source, `MIN_SAMPLES` to `MAX_SAMPLES`, mixed as training mixes them.

    Args:
        recipe: The recipe, with its classes resolved.
        name: Name of the source.
        streams: By source.
        microbatches: Microbatches in a step.
        workers: Load with `load_sample`.
    """
    mixing = recipe.mixings().get(name)
    wanted = [name, mixing.partner] if mixing and mixing.partner else [name]
    classes = recipe.class_counts()
    drawn: list[DrawnSample] = []
    microbatch = 0
    while len(drawn) < MIN_SAMPLES:
        loaded = {other: _load(streams[other], microbatch, workers) for other in wanted}
        batches = [_batch(streams[other], loaded[other]) for other in wanted]
        step, index = divmod(microbatch, microbatches)
        only = {name: mixing} if mixing else {}
        (batch, *_) = mix_batches(batches, only, classes, recipe.seed, step, index)
        drawn += _drawn_samples(batch, loaded[name], classes[batch.head])
        microbatch += 1
    return drawn[:MAX_SAMPLES]


def _load(stream: Stream, microbatch: int, workers: WorkerPool) -> list[tuple[SampleRequest, Sample | UnreadableMedia]]:
    requests = stream.requests(microbatch)
    with progress_bar(f"{stream.name}, microbatch {microbatch}", len(requests), "samples") as advance:
        loaded = []
        for pair in results_in_order(requests, workers, ahead=len(requests)):
            loaded.append(pair)
            advance()
    return loaded


def _batch(stream: Stream, loaded: Iterable[tuple[SampleRequest, Sample | UnreadableMedia]]) -> Batch:
    """Returns loaded samples as a batch, with a crossed-out clip in place of a file that cannot be read."""
    source = stream.source
    length = 1 if source.media == "image" else source.sampling.clip_length
    missing = crossed_out(length, source.training_view.crop_size)
    clips = [
        sample.clip if isinstance(sample, Sample) else Clip(missing, request.label, request.key, request.media)
        for request, sample in loaded
    ]
    return collate(stream.name, source, clips)


def _drawn_samples(
    batch: Batch, loaded: Sequence[tuple[SampleRequest, Sample | UnreadableMedia]], num_classes: int
) -> list[DrawnSample]:
    labels = batch.labels
    if not labels.is_floating_point():
        labels = functional.one_hot(labels, num_classes).float()
    drawn = []
    for position, (request, sample) in enumerate(loaded):
        frames = sample.frames if isinstance(sample, Sample) else None
        reason = sample.reason if isinstance(sample, UnreadableMedia) else ""
        clip, key = batch.clips[position, 0], batch.keys[position]  # training has one view
        drawn.append(DrawnSample(clip, frames, labels[position], request.label, key, reason))
    return drawn
