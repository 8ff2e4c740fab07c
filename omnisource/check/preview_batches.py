"""Contact sheets of the first training batches: what goes into the model, and what it was made of."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_splits
from omnisource.data.loading.collating import collate
from omnisource.data.loading.loader import results_in_order
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import picked_frames, viewed
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.workers import WorkerPool
from omnisource.data.missing import require_data
from omnisource.data.transforms.mixing import mix_batches
from omnisource.data.transforms.views import random_resized_crop_box
from omnisource.errors import UnreadableMedia, UserError
from omnisource.recipe.data import TrainingView
from omnisource.recipe.recipe import Recipe
from omnisource.reporting.pictures import contact_sheet, has_mark
from omnisource.reporting.progress import progress_bar
from omnisource.training.plan import make_plan
from omnisource.types import Batch, Clip

MOST_SAMPLES = 16
"""Samples on a sheet at most."""

LEAST_SAMPLES = 8
"""Samples for which further microbatches are drawn, where one has fewer."""

MOST_FRAMES = 8
"""Frames of a clip that are drawn at most; of longer clips they are taken evenly."""

_MARK = "omnisource check --pictures"  # by which our own sheets are known, which may be replaced
_SHEET_WIDTH, _TILE_HEIGHT = 16.0, 1.9  # inches
_GAP = 6  # pixels between a sample and what it was made of
_CROP_COLOR, _BACKGROUND, _CROSS = (255, 190, 0), 255, (200, 60, 50)


@dataclass(frozen=True)
class Sample:
    """One training sample and what it was made of.

    Attributes:
        clip: As training loads it.
        frames: [T, h, w, 3] uint8: the frames that were decoded, small, with the outline of the crop; T is at most
            `MOST_FRAMES`.
    """

    clip: Clip
    frames: np.ndarray


@dataclass(frozen=True)
class DrawnSample:
    """What is drawn of one sample.

    Attributes:
        clip: [3, T, S, S] uint8, as it goes into the model.
        frames: What it was made of, as in `Sample`; None if its file cannot be read.
        label: [classes] float32, summing to 1.
        own_class: Class index of the sample before it was mixed.
        key: Where it came from, with what was mixed into it.
        reason: Why its file cannot be read, or "".
    """

    clip: Tensor
    frames: np.ndarray | None
    label: Tensor
    own_class: int
    key: str
    reason: str


def draw_batches(recipe: Recipe, config_path: str, folder: Path) -> list[Path]:
    """Draws a contact sheet of every source's first training batches and returns the pictures, in the sources' order.

    The samples are those of a run of one process: the same items, frames, augmentation and mixing. Beside or below each
    stands what was decoded, with an outline of the crop. A file that cannot be read is named in its sample's place.
    Sheets of an earlier time are replaced.

    Args:
        recipe: The recipe.
        config_path: How errors name it.
        folder: Where the pictures go, NAME OF THE SOURCE.png; it is made where it is missing.

    Raises:
        UserError: If the folder cannot be written to or has files of others, or the data or its lists are missing or
            wrong.
    """
    require_own(recipe, folder)
    require_data(recipe, ("train",), config_path)
    recipe, class_names = resolve_classes(recipe)
    items = read_splits(recipe, class_names, "train")
    numbers = make_plan(recipe, {name: len(of_source) for name, of_source in items.items()}, num_processes=1)
    streams = {
        name: Stream(name, source, items[name], numbers.batch_sizes[name], recipe.seed)
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
            samples = first_samples(recipe, name, streams, numbers.microbatches, workers)
            _draw(name, samples, class_names[recipe.sources[name].label_space], recipe.seed, path)
    return list(paths.values())


def require_own(recipe: Recipe, folder: Path) -> None:
    """Refuses a folder for the pictures in which files of others have the names of ours.

    Raises:
        UserError: If there are such files, or it cannot be written to.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"--pictures {folder}: {nearest} is no folder that can be written to; name another one")
    foreign = [str(path) for path in _sheets(recipe, folder).values() if path.exists() and not has_mark(path, _MARK)]
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
    frames, rng = picked_frames(request)
    # The crop is the first that the view draws; the view itself must draw it again, from where the frames left off.
    box = random_resized_crop_box(frames.shape[1], frames.shape[2], request.view, copy.deepcopy(rng))
    clip = viewed(request, frames, rng)
    return Sample(clip, _outlined(frames[_shown(len(frames))], box, request.view.crop_size))


def first_samples(
    recipe: Recipe, name: str, streams: Mapping[str, Stream], microbatches: int, workers: WorkerPool
) -> list[DrawnSample]:
    """Returns the first training samples of a source, `LEAST_SAMPLES` to `MOST_SAMPLES`, mixed as training mixes them.

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
    while len(drawn) < LEAST_SAMPLES:
        loaded = {other: _load(streams[other], microbatch, workers) for other in wanted}
        batches = [_batch(streams[other], loaded[other]) for other in wanted]
        step, place = divmod(microbatch, microbatches)
        only = {name: mixing} if mixing else {}
        (batch, *_) = mix_batches(batches, only, classes, recipe.seed, step, place)
        drawn += _drawn_samples(batch, loaded[name], classes[batch.head])
        microbatch += 1
    return drawn[:MOST_SAMPLES]


def _load(stream: Stream, microbatch: int, workers: WorkerPool) -> list[tuple[SampleRequest, Sample | UnreadableMedia]]:
    requests = stream.requests(microbatch)
    with progress_bar(f"{stream.name}, microbatch {microbatch}", len(requests), "samples") as advance:
        loaded = []
        for pair in results_in_order(requests, workers, ahead=len(requests)):
            loaded.append(pair)
            advance()
    return loaded


def _batch(stream: Stream, loaded: Iterable[tuple[SampleRequest, Sample | UnreadableMedia]]) -> Batch:
    """Returns loaded samples as a batch; a crossed out clip stands where a file cannot be read."""
    source = stream.source
    length = 1 if source.media == "image" else source.sampling.clip_length
    missing = _crossed_out(length, source.training_view.crop_size)
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


def _draw(name: str, samples: Sequence[DrawnSample], class_names: Sequence[str], seed: int, path: Path) -> None:
    """Draws the sheet of one source."""
    tiles = [_tile(sample) for sample in samples]
    aspect = max(tile.shape[1] / tile.shape[0] for tile in tiles)
    contact_sheet(
        tiles,
        [caption(number, sample, class_names) for number, sample in enumerate(samples, start=1)],
        path,
        columns=max(1, min(6, round(_SHEET_WIDTH / (_TILE_HEIGHT * aspect)))),
        correct=[False if sample.reason else None for sample in samples],
        title=f"{name}: the first {len(samples)} training samples of seed {seed} as they go into the model; with each, "
        "what was decoded, and its crop",
        height_inches=_TILE_HEIGHT,
        mark=_MARK,
    )


def caption(number: int, sample: DrawnSample, class_names: Sequence[str]) -> str:
    """Returns what stands above a sample: its number, its class or classes, where it came from, and what is wrong."""
    classes: list[int] = sample.label.nonzero().flatten().tolist()
    classes.sort(key=lambda index: index != sample.own_class)  # in the order of the keys
    names = [class_names[index] for index in classes]
    # Where no class map gives names, they are numbers, which beside the shares would not look like names.
    names = [f"class {name}" if name.isdecimal() else name for name in names]
    shares = [f"{float(sample.label[index]):.2f} {name}" for index, name in zip(classes, names, strict=True)]
    text = " + ".join(shares) if len(classes) > 1 else names[0]
    lines = [f"{number}. {text}", sample.key]
    return "\n".join([*lines, f"cannot be read: {sample.reason}"] if sample.reason else lines)


def _tile(sample: DrawnSample) -> np.ndarray:
    """Returns a sample and what it was made of as one picture [H, W, 3]: images side by side, clips as two rows."""
    chosen = sample.clip[:, _shown(sample.clip.shape[1])].permute(1, 2, 3, 0).numpy()  # [3, T, S, S] -> [T, S, S, 3]
    length, side = chosen.shape[:2]
    shape = _slot(length, side)
    frames = [_centerd(frame, *shape) for frame in (sample.frames if sample.frames is not None else [])]
    if not frames:
        frames = [np.full((*shape, 3), _BACKGROUND, np.uint8)] * length
    if length == 1:
        return np.concatenate([chosen[0], np.full((side, _GAP, 3), _BACKGROUND, np.uint8), frames[0]], axis=1)
    gap = np.full((_GAP, length * (side + _GAP) - _GAP, 3), _BACKGROUND, np.uint8)
    return np.concatenate([_row(chosen), gap, _row(frames)], axis=0)


def _row(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    gap = np.full((len(frames[0]), _GAP, 3), _BACKGROUND, np.uint8)
    return np.concatenate([part for frame in frames for part in (gap, frame)][1:], axis=1)


def _slot(length: int, side: int) -> tuple[int, int]:
    """Returns height and width of the place for one decoded frame, beside an image or below a frame of a clip."""
    return (side, side * 4 // 3) if length == 1 else (side * 3 // 4, side)


def _shown(length: int) -> np.ndarray:
    """Returns which frames of a clip are drawn."""
    return np.rint(np.linspace(0, length - 1, min(length, MOST_FRAMES))).astype(int)


def _outlined(frames: np.ndarray, box: tuple[int, int, int, int], side: int) -> np.ndarray:
    """Returns frames [T, H, W, 3] made small enough for their place, with the outline of a box (top, left, ...)."""
    length, height, width, _ = frames.shape
    slot_height, slot_width = _slot(length, side)
    scale = min(slot_height / height, slot_width / width)
    size = (max(1, int(height * scale)), max(1, int(width * scale)))
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    small = functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    small = small.permute(0, 2, 3, 1).contiguous().numpy()
    top, bottom = (int(row * scale) for row in (box[0], box[0] + box[2]))
    left, right = (int(column * scale) for column in (box[1], box[1] + box[3]))
    thickness = max(1, side // 75)
    inside = (slice(top + thickness, bottom - thickness), slice(left + thickness, right - thickness))
    outline = np.zeros(size, bool)
    outline[top:bottom, left:right] = True
    outline[inside] = False
    small[:, outline] = _CROP_COLOR
    return small


def _centerd(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns a frame [h, w, 3] in the middle of a white one."""
    result = np.full((height, width, 3), _BACKGROUND, np.uint8)
    top, left = (height - frame.shape[0]) // 2, (width - frame.shape[1]) // 2
    result[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return result


def _crossed_out(length: int, side: int) -> Tensor:
    """Returns a gray clip with a red cross, [1, 3, T, S, S] uint8."""
    rows, columns = np.indices((side, side))
    width = max(1, side // 40)
    is_cross = (abs(rows - columns) <= width) | (abs(rows + columns - side + 1) <= width)
    frame = np.where(is_cross[..., None], np.array(_CROSS), 225).astype(np.uint8)
    return torch.from_numpy(frame).permute(2, 0, 1)[None, :, None].repeat(1, 1, length, 1, 1)
