"""From one line of a list to one `Clip`: pick the frames, decode them, transform them.

A `SampleRequest` says everything about one sample, so that any process can load it and none needs the list.
"""

from __future__ import annotations

import os

import numpy as np
from torch import Tensor

from omnisource.data.decoding.image_crops.crop import decode_crop
from omnisource.data.decoding.images import decode_frame_folder, decode_image
from omnisource.data.decoding.video import FewerFrames, VideoFile
from omnisource.data.loading import clip_sampling
from omnisource.data.loading.request import SampleRequest
from omnisource.data.transforms.views import evaluation_views, random_resized_crop_box, training_view, view_of_crop
from omnisource.errors import UnreadableMedia
from omnisource.files.byte_ranges import read_range
from omnisource.randomness import sample_generator
from omnisource.recipe.data import TrainingView
from omnisource.types import Clip


def load_clip(request: SampleRequest, content: bytes | None = None) -> Clip:
    """Returns the clip that a request describes; equal requests give equal clips.

    Args:
        request: The request.
        content: What `content_of` returned for it, where that was called before.

    Raises:
        UnreadableMedia: If the file cannot be decoded.
    """
    if request.media == "image" and isinstance(request.view, TrainingView):
        return _clip(request, _training_view_of_image(request, request.view, content)[None])
    pixels, rng = picked_frames(request, content)
    return viewed(request, pixels, rng)


def viewed(request: SampleRequest, pixels: np.ndarray, rng: np.random.Generator) -> Clip:
    """Returns the clip of a request, given what `picked_frames` returned for it; the pixels stay as they are.

    Of large JPEGs in training `load_clip` decodes less, and gives other pixels of the same crop.
    """
    if isinstance(request.view, TrainingView):
        views = training_view(pixels, request.view, rng)[None]  # [3, T, H, W] -> [1, 3, T, H, W]
    else:
        views = evaluation_views(pixels, request.view)
    return _clip(request, views)


def picked_frames(request: SampleRequest, content: bytes | None = None) -> tuple[np.ndarray, np.random.Generator]:
    """Returns the frames that a request picks, before its view, and the generator that draws the view.

    Args:
        request: The request.
        content: What `content_of` returned for it, where that was called before.

    Returns:
        [T, H, W, 3] uint8 in training, [num_clips, T, H, W, 3] in evaluation, T = 1 for images; and the generator of
        the sample, with the draws of the frames behind it.

    Raises:
        UnreadableMedia: If the file cannot be decoded.
    """
    if request.media == "image":
        return _frames_of_image(request, content), _generator(request)
    if request.num_frames is not None:
        return _frames_of_folder(request, request.num_frames)
    return _frames_of_video(request, content)


def content_of(request: SampleRequest) -> bytes | None:
    """Returns the bytes of a request's file where it lies in a shard, and None where it is a file of its own.

    Raises:
        UnreadableMedia: If they cannot be read.
    """
    if request.byte_range is None:
        return None
    try:
        return read_range(request.byte_range)
    except UnreadableMedia as error:
        raise UnreadableMedia(request.path, error.reason) from error  # the shard is fine; this member is meant


def _clip(request: SampleRequest, views: Tensor) -> Clip:
    return Clip(frames=views.contiguous(), label=request.label, key=request.key, media=request.media)


def _training_view_of_image(request: SampleRequest, view: TrainingView, content: bytes | None) -> Tensor:
    """Returns the view of an image of which no more is decoded than its crop needs: [3, 1, S, S] uint8."""
    used: list[np.random.Generator] = []

    def choose_box(height: int, width: int) -> tuple[int, int, int, int]:
        used.append(_generator(request))  # a file that is read in a second way has the same crop again
        return random_resized_crop_box(height, width, view, used[-1])

    crop = decode_crop(request.path, choose_box, view.crop_size, content_of(request) if content is None else content)
    return view_of_crop(crop[None], view, used[-1])


def _frames_of_image(request: SampleRequest, content: bytes | None) -> np.ndarray:
    image = decode_image(request.path, content=content_of(request) if content is None else content)
    return image[None] if isinstance(request.view, TrainingView) else image[None, None]


def _frames_of_video(request: SampleRequest, content: bytes | None) -> tuple[np.ndarray, np.random.Generator]:
    with VideoFile(request.path, content_of(request) if content is None else content) as video:
        num_frames = video.num_frames
        while True:
            rng = _generator(request)
            wanted = _frame_indices(request, num_frames, rng)
            try:
                pixels = video.frames(wanted.ravel())
                break
            except FewerFrames as found:
                # The container promised more frames than decode; pick again among those there are.
                num_frames = found.actual
    return pixels.reshape(*wanted.shape, *pixels.shape[1:]), rng


def _frames_of_folder(request: SampleRequest, num_frames: int) -> tuple[np.ndarray, np.random.Generator]:
    rng = _generator(request)
    wanted = _frame_indices(request, num_frames, rng)
    try:
        pixels = decode_frame_folder(request.path, request.frame_template, wanted.ravel())
    except UnreadableMedia as error:  # the item is the folder; the frame is what is wrong with it
        reason = f"frame {os.path.relpath(error.path, request.path)}: {error.reason}"
        raise UnreadableMedia(request.path, reason) from error
    return pixels.reshape(*wanted.shape, *pixels.shape[1:]), rng


def _frame_indices(request: SampleRequest, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    if isinstance(request.view, TrainingView):
        return clip_sampling.training_indices(num_frames, request.sampling, rng)
    return clip_sampling.evaluation_indices(num_frames, request.sampling, request.view.num_clips)


def _generator(request: SampleRequest) -> np.random.Generator:
    return sample_generator(request.seed, request.source, request.epoch, request.index)
