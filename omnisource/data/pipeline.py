"""From one line of a list to one `Clip`: pick the frames, decode them, transform them.

A `SampleRequest` says everything about one sample, so that any process can load it and none needs the list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from omnisource.data import frames, transforms
from omnisource.data.decode import FewerFrames, VideoFile, decode_frame_folder, decode_image
from omnisource.data.frames import ClipSampling
from omnisource.data.transforms import EvaluationViews, TrainingView
from omnisource.randomness import sample_generator
from omnisource.types import Clip, Media


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


def load_clip(request: SampleRequest) -> Clip:
    """Returns the clip that a request describes; equal requests give equal clips.

    Raises:
        UnreadableMedia: If the file cannot be decoded.
    """
    if request.media == "image":
        pixels = _load_image(request)
    elif request.num_frames is not None:
        pixels = _load_frame_folder(request, request.num_frames)
    else:
        pixels = _load_video(request)
    # [3, T, H, W] of training -> [1, 3, T, H, W]
    views = pixels if pixels.ndim == 5 else pixels[None]
    return Clip(frames=views.contiguous(), label=request.label, key=request.key, media=request.media)


def read_whole(request: SampleRequest) -> int:
    """Returns the number of frames of a request's file, having decoded every one of them; 1 for images.

    Raises:
        UnreadableMedia: If anything in the file cannot be decoded.
    """
    if request.media == "image":
        decode_image(request.path, min_short_side=None)
        return 1
    if request.num_frames is not None:
        for index in range(request.num_frames):  # two at a time, which must be of one size
            decode_frame_folder(request.path, request.frame_template, [max(0, index - 1), index])
        return request.num_frames
    with VideoFile(request.path) as video:
        return video.decode_all()


def _load_image(request: SampleRequest) -> torch.Tensor:
    if isinstance(request.view, TrainingView):
        # A crop of the smallest area still has as many pixels a side as the view: nothing is enlarged for speed.
        wanted = round(request.view.crop_size / request.view.min_area**0.5)
        image = decode_image(request.path, min_short_side=wanted)
        return transforms.training_view(image[None], request.view, _generator(request))
    # Testing resamples without antialiasing, so draft mode, which averages, would change what the protocol sees.
    image = decode_image(request.path, min_short_side=None)
    one_clip = EvaluationViews(1, request.view.num_crops, request.view.short_side, request.view.crop_size)
    return transforms.evaluation_views(image[None, None], one_clip)


def _load_video(request: SampleRequest) -> torch.Tensor:
    with VideoFile(request.path) as video:
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
    return _views(request, pixels.reshape(*wanted.shape, *pixels.shape[1:]), rng)


def _load_frame_folder(request: SampleRequest, num_frames: int) -> torch.Tensor:
    rng = _generator(request)
    wanted = _frame_indices(request, num_frames, rng)
    pixels = decode_frame_folder(request.path, request.frame_template, wanted.ravel())
    return _views(request, pixels.reshape(*wanted.shape, *pixels.shape[1:]), rng)


def _frame_indices(request: SampleRequest, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    if isinstance(request.view, TrainingView):
        return frames.training_indices(num_frames, request.sampling, rng)
    return frames.evaluation_indices(num_frames, request.sampling, request.view.num_clips)


def _views(request: SampleRequest, pixels: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    if isinstance(request.view, TrainingView):
        return transforms.training_view(pixels, request.view, rng)
    return transforms.evaluation_views(pixels, request.view)


def _generator(request: SampleRequest) -> np.random.Generator:
    return sample_generator(request.seed, request.source, request.epoch, request.index)
