from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from omnisource.check.examine import examine
from omnisource.data.decoding.images import decode_image
from omnisource.data.decoding.video import VideoFile
from omnisource.data.loading import clip_sampling
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import load_clip
from omnisource.data.transforms import views
from omnisource.errors import UnreadableMedia
from omnisource.randomness import sample_generator
from omnisource.recipe.data import ClipSampling, EvaluationViews, TrainingView
from omnisource.types import Clip, Media
from tests.data.decoding.test_video import write_skipping_video
from tests.support.media import (
    moving_square,
    numbered_frames,
    read_numbers,
    truncate,
    write_frames,
    write_image,
    write_video,
)

SAMPLING = ClipSampling(clip_length=4, frame_interval=3)
WHOLE = TrainingView(crop_size=32, min_area=1.0, min_aspect=1.0, max_aspect=1.0, flip_probability=0.0)
"""A view without chance: all of a square frame."""

CROP = TrainingView(crop_size=32)
TEN_BY_THREE = EvaluationViews(num_clips=10, num_crops=3, short_side=40, crop_size=32)


def request_for(path: Path, view: TrainingView | EvaluationViews, media: Media = "video", **others) -> SampleRequest:
    plain = SampleRequest("clips", media, str(path), path.name, 5, None, "img_{:05d}.png", SAMPLING, view)
    return dataclasses.replace(plain, **others)


def numbers_of(clip: Clip) -> list[list[int]]:
    """Returns the numbers that the frames of each view show."""
    return [read_numbers(view.permute(1, 2, 3, 0).numpy()) for view in clip.frames]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write_video(folder / "numbers.mp4", numbered_frames(40))
    write_frames(folder / "numbers", numbered_frames(40), "img_{:05d}.png")
    write_video(folder / "wide.mp4", moving_square(40, 48, 64))
    write_image(folder / "number.png", numbered_frames(1, first=1234)[0])
    texture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    write_image(folder / "texture.png", texture)
    return folder


def test_a_training_clip_shows_the_frames_that_its_generator_draws(folder: Path) -> None:
    starts = set()
    for epoch in range(12):
        clip = load_clip(request_for(folder / "numbers.mp4", WHOLE, seed=3, epoch=epoch, index=8))
        assert clip.frames.shape == (1, 3, 4, 32, 32) and clip.frames.dtype == torch.uint8
        assert clip.frames.is_contiguous()
        assert (clip.label, clip.key, clip.media) == (5, "numbers.mp4", "video")
        drawn = clip_sampling.training_indices(40, SAMPLING, sample_generator(3, "clips", epoch, 8))
        assert numbers_of(clip) == [drawn.tolist()]
        starts.add(int(drawn[0]))
    assert len(starts) > 4


def test_a_training_clip_is_cropped_with_the_draws_that_follow_those_of_its_frames(folder: Path) -> None:
    rng = sample_generator(3, "clips", 1, 8)
    with VideoFile(folder / "wide.mp4") as video:
        pixels = video.frames(clip_sampling.training_indices(40, SAMPLING, rng))
    clip = load_clip(request_for(folder / "wide.mp4", CROP, seed=3, epoch=1, index=8))
    assert torch.equal(clip.frames[0], views.training_view(pixels, CROP, rng))


def test_a_tested_clip_has_its_views_by_crop_and_then_by_clip(folder: Path) -> None:
    clip = load_clip(request_for(folder / "numbers.mp4", dataclasses.replace(TEN_BY_THREE, short_side=32)))
    assert clip.frames.shape == (30, 3, 4, 32, 32) and clip.frames.is_contiguous()
    expected = clip_sampling.evaluation_indices(40, SAMPLING, 10).tolist()
    assert numbers_of(clip) == expected * 3
    assert expected[0] == [0, 3, 6, 9] and expected[-1] == [30, 33, 36, 39]


def test_raw_frames_give_the_clips_of_the_video(folder: Path) -> None:
    for view in (WHOLE, dataclasses.replace(TEN_BY_THREE, short_side=32)):
        raw = load_clip(request_for(folder / "numbers", view, num_frames=40, seed=1, epoch=2, index=3))
        video = load_clip(request_for(folder / "numbers.mp4", view, seed=1, epoch=2, index=3))
        assert raw.media == "video" and raw.frames.shape == video.frames.shape
        assert numbers_of(raw) == numbers_of(video)


def test_raw_frames_end_where_their_list_says(folder: Path) -> None:
    clip = load_clip(request_for(folder / "numbers", EvaluationViews(2, 1, 32, 32), num_frames=20))
    assert numbers_of(clip) == [[0, 3, 6, 9], [10, 13, 16, 19]]
    with pytest.raises(UnreadableMedia, match=r"img_000(41|44|47|50)\.png: no such file"):
        load_clip(request_for(folder / "numbers", EvaluationViews(2, 1, 32, 32), num_frames=50))


def test_an_image_is_a_clip_of_one_frame(folder: Path) -> None:
    for view, num_views in ((WHOLE, 1), (EvaluationViews(1, 1, 32, 32), 1), (EvaluationViews(10, 3, 40, 32), 3)):
        clip = load_clip(request_for(folder / "number.png", view, "image"))
        assert clip.frames.shape == (num_views, 3, 1, 32, 32) and clip.frames.dtype == torch.uint8
        assert (clip.label, clip.key, clip.media) == (5, "number.png", "image")
        if view != EvaluationViews(10, 3, 40, 32):
            assert numbers_of(clip) == [[1234]]


def test_the_views_of_an_image_are_those_of_its_pixels(folder: Path) -> None:
    pixels = decode_image(folder / "texture.png")
    trained = load_clip(request_for(folder / "texture.png", CROP, "image", seed=3, epoch=1, index=8))
    rng = sample_generator(3, "clips", 1, 8)
    assert torch.equal(trained.frames[0], views.training_view(pixels[None], CROP, rng))
    tested = load_clip(request_for(folder / "texture.png", TEN_BY_THREE, "image"))
    assert torch.equal(tested.frames, views.evaluation_views(pixels[None], TEN_BY_THREE))


def test_large_jpegs_are_reduced_for_training_only_as_far_as_no_crop_is_enlarged(tmp_path: Path) -> None:
    steps = np.linspace(0, 255, 800, dtype=np.uint8)
    path = write_image(
        tmp_path / "large.jpg", np.stack(np.broadcast_arrays(steps[:, None], steps, np.uint8(128)), axis=-1)
    )
    view = TrainingView(crop_size=90, min_area=0.01)
    full = decode_image(path)
    seen = set()
    for index in range(30):
        rng = sample_generator(0, "clips", 0, index)
        expected = views.training_view(full[None], view, rng).int()
        reduced = load_clip(request_for(path, view, "image", index=index)).frames[0].int()
        box = views.random_resized_crop_box(800, 800, view, sample_generator(0, "clips", 0, index))
        reduction = next((number for number in (8, 4, 2) if min(box[2:]) >= number * 90), 1)
        seen.add(reduction)
        # The crop is rounded to whole pixels of the reduced image, at an eighth to 4 of the file's: to 1.3 levels.
        assert (reduced - expected).abs().float().mean() <= (0 if reduction == 1 else 2)
    assert seen == {1, 2, 4, 8}
    tested = EvaluationViews(1, 1, 32, 32)
    clip = load_clip(request_for(path, tested, "image"))
    assert torch.equal(clip.frames, views.evaluation_views(full[None], tested))


@pytest.mark.parametrize("name", ["wide.mp4", "texture.png"])
def test_training_draws_depend_on_seed_source_epoch_and_index_only(folder: Path, name: str, tmp_path: Path) -> None:
    media: Media = "image" if name.endswith("png") else "video"
    request = request_for(folder / name, CROP, media, seed=1, epoch=2, index=3)
    pixels = load_clip(request).frames

    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes((folder / name).read_bytes())
    same = dataclasses.replace(request, path=str(elsewhere), key="another key", label=0)
    torch.manual_seed(99)
    np.random.seed(99)
    assert torch.equal(load_clip(same).frames, pixels)

    for change in ({"seed": 2}, {"source": "others"}, {"epoch": 3}, {"index": 4}):
        assert not torch.equal(load_clip(dataclasses.replace(request, **change)).frames, pixels), change


def test_the_last_epoch_and_index_of_one_sample_are_not_those_of_another(folder: Path) -> None:
    one, other = (
        load_clip(request_for(folder / "texture.png", CROP, "image", epoch=epoch, index=index)).frames
        for epoch, index in ((1, 23), (12, 3))
    )
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", ["wide.mp4", "texture.png"])
def test_evaluation_is_not_random(folder: Path, name: str) -> None:
    media: Media = "image" if name.endswith("png") else "video"
    request = request_for(folder / name, TEN_BY_THREE, media)
    pixels = load_clip(request).frames
    for change in ({"seed": 2}, {"source": "others"}, {"epoch": 3}, {"index": 4}):
        assert torch.equal(load_clip(dataclasses.replace(request, **change)).frames, pixels), change


@pytest.mark.parametrize("name", ["promises.avi", "promises.mp4"])
def test_where_a_container_promises_more_frames_the_clip_is_picked_among_those_there_are(
    name: str, tmp_path: Path
) -> None:
    path = write_skipping_video(tmp_path / name, padding=b"\x00\x00\x01\xb2" + b"padding" * 5)
    with VideoFile(path) as video:
        assert video.num_frames == 60  # of which 59 decode: 0 .. 19 and 21 .. 59
    shown = [*range(20), *range(21, 60)]

    tested = load_clip(request_for(path, EvaluationViews(2, 1, 32, 32)))
    assert numbers_of(tested) == [
        [shown[index] for index in clip] for clip in clip_sampling.evaluation_indices(59, SAMPLING, 2).tolist()
    ]

    # Where the draw among 60 starts late, what is wanted does not exist, and the same draws are made among 59.
    sampling = ClipSampling(clip_length=59, frame_interval=1)
    for index in range(4):
        trained = load_clip(request_for(path, WHOLE, sampling=sampling, index=index))
        drawn = clip_sampling.training_indices(59, sampling, sample_generator(0, "clips", 0, index)).tolist()
        assert numbers_of(trained) == [[shown[position] for position in drawn]]


def test_a_truncated_video_gives_clips_of_the_frames_it_still_has(tmp_path: Path) -> None:
    path = truncate(write_video(tmp_path / "cut.avi", numbered_frames(60), "mjpeg"), 0.6)
    num_frames = examine(request_for(path, WHOLE)).num_frames
    assert 20 < num_frames < 60
    clip = load_clip(request_for(path, EvaluationViews(3, 1, 32, 32)))
    expected = clip_sampling.evaluation_indices(num_frames, SAMPLING, 3)
    assert expected.max() == num_frames - 1
    # What decoders make of the incomplete last frame may show any number.
    assert [view[:3] for view in numbers_of(clip)] == expected[:, :3].tolist()


@pytest.mark.parametrize("media", ["image", "video"])
def test_what_cannot_be_read_is_reported(media: Media, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no media")
    for name in ("missing", "text"):
        with pytest.raises(UnreadableMedia) as error:
            load_clip(request_for(tmp_path / name, WHOLE, media))
        assert error.value.path == str(tmp_path / name)
