"""The contact sheets of the first batches: the samples of training, with their labels and what they were made of."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from omnisource import ColorJitter, LabelSpace, Mixing, RandAugment, RandomErasing, Recipe
from omnisource.check.preview_batches import draw_batches, first_samples, load_sample
from omnisource.check.preview_sheet import DrawnSample, caption
from omnisource.data.classes import resolve_classes
from omnisource.data.datasets import read_splits
from omnisource.data.loading.loader import Loader
from omnisource.data.loading.request import SampleRequest
from omnisource.data.loading.sample import load_clip
from omnisource.data.loading.stream import Stream
from omnisource.data.loading.unreadable import UnreadableLog
from omnisource.data.loading.workers import WorkerPool
from omnisource.data.shards.lookup import shard_version
from omnisource.data.transforms.mixing import mix_batches
from omnisource.errors import UserError
from omnisource.files.byte_ranges import ByteRange
from omnisource.recipe.data import ClipSampling, TrainingView
from omnisource.training.plan import make_plan
from tests.support.http_server import serving
from tests.support.media import scenery, truncate, write_image
from tests.support.miniature import IMAGE_CLASSES, VIDEO_CLASSES
from tests.support.tiny_runs import make_data, tiny_recipe

YELLOW, RED_CROSS = (255, 190, 0), (200, 60, 50)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("pictured"))


def augmented(recipe: Recipe) -> Recipe:
    """Returns a recipe of two sources of one label space with every augmentation, images mixed into the videos."""
    video, image = recipe.sources["kinetics400"], recipe.sources["imagenet"]
    view = dataclasses.replace(
        video.training_view,
        rand_augment=RandAugment(),
        color_jitter=ColorJitter(),
        random_erasing=RandomErasing(1.0),
    )
    mixing = Mixing(mixup_alpha=0.8, cutmix_alpha=1.0)
    sources = {
        "kinetics400": dataclasses.replace(
            video, training_view=view, mixing=dataclasses.replace(mixing, partner="imagenet"), batch_size=3
        ),
        "imagenet": dataclasses.replace(image, label_space="kinetics400", training_view=view, mixing=mixing),
    }
    spaces = {"kinetics400": LabelSpace("video", num_classes=3)}
    return dataclasses.replace(recipe, label_spaces=spaces, sources=sources)


def streams_of(recipe: Recipe) -> tuple[dict[str, Stream], int]:
    """Returns the streams of a run of one process, and its microbatches a step."""
    resolved, names = resolve_classes(recipe)
    items = read_splits(resolved, names, "train")
    numbers = make_plan(resolved, {name: len(of_source) for name, of_source in items.items()}, 1)
    streams = {
        name: Stream(name, source, items[name], numbers.batch_sizes[name], recipe.seed)
        for name, source in resolved.sources.items()
    }
    return streams, numbers.microbatches


def samples_of(recipe: Recipe, name: str) -> list[DrawnSample]:
    streams, microbatches = streams_of(recipe)
    with WorkerPool(0, 60, load=load_sample) as workers:
        return first_samples(recipe, name, streams, microbatches, workers)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def has_color(picture: np.ndarray, color: tuple[int, int, int], within: int = 12) -> bool:
    return bool((np.abs(picture.astype(int) - color).max(axis=-1) <= within).any())


@pytest.mark.parametrize("name", ["kinetics400", "imagenet"])
@pytest.mark.parametrize("is_augmented", [True, False])
def test_samples_are_the_first_that_training_takes(data: Path, name: str, is_augmented: bool) -> None:
    recipe = tiny_recipe(data, "accumulation=2")
    recipe = augmented(recipe) if is_augmented else recipe
    samples = samples_of(recipe, name)
    streams, microbatches = streams_of(recipe)
    expected = []
    with WorkerPool(0, 60) as workers:
        loader = Loader(
            list(streams.values()), workers, microbatches, range(microbatches), UnreadableLog(0, {}, print, {})
        )
        for step in range(3):
            for index, batches in enumerate(next(loader)):
                mixed = mix_batches(batches, recipe.mixings(), recipe.class_counts(), recipe.seed, step, index)
                (batch,) = (batch for batch in mixed if batch.source == name)
                expected += list(zip(batch.clips[:, 0], batch.labels, batch.keys, strict=True))
    assert 8 <= len(samples) <= 16
    for sample, (clip, label, key) in zip(samples, expected, strict=False):
        assert torch.equal(sample.clip, clip)
        assert sample.key == key
        if is_augmented:
            assert torch.equal(sample.label, label)
        else:
            assert sample.label.argmax() == label and sample.label.sum() == 1
    assert any(" + " in sample.key for sample in samples) == is_augmented


def test_frames_are_what_was_decoded_with_the_outline_of_the_crop(data: Path) -> None:
    for sample in samples_of(tiny_recipe(data), "kinetics400"):
        assert sample.frames is not None
        length, height, width, _ = sample.frames.shape
        assert length == sample.clip.shape[1] and (height, width) == (24, 28)  # of 40 x 48, in a slot of 24 x 32
        assert all(has_color(frame, YELLOW, within=0) for frame in sample.frames)
        # Moving squares on a plain ground: what is not outlined has the colors of the file.
        assert np.abs(sample.frames[0].astype(int) - sample.frames[1].astype(int)).max() > 30


def test_long_clips_are_drawn_with_eight_frames_taken_evenly(data: Path) -> None:
    recipe = tiny_recipe(
        data, "sources.kinetics400.sampling.clip_length=12", "sources.kinetics400.sampling.frame_interval=1"
    )
    samples = samples_of(recipe, "kinetics400")
    assert all(
        sample.clip.shape[1] == 12 and sample.frames is not None and len(sample.frames) == 8 for sample in samples
    )


def test_file_is_read_once_for_its_clip_and_its_frames(tmp_path: Path) -> None:
    path = write_image(tmp_path / "picture.png", scenery(0))
    with serving(tmp_path) as server:
        url = f"{server.url}/{path.name}"
        part = ByteRange(url, 0, path.stat().st_size, shard_version(url))
        server.requests.clear()
        sampling, view = ClipSampling(), TrainingView(crop_size=32)
        request = SampleRequest("tiny", "image", url, path.name, 0, None, "", sampling, view, byte_range=part)
        sample = load_sample(request)
        assert len(server.requests) == 1
        assert torch.equal(sample.clip.frames, load_clip(request).frames)
        assert has_color(sample.frames[0], YELLOW, within=0)


def test_every_source_gets_a_sheet_named_after_it(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pictures"
    paths = draw_batches(augmented(tiny_recipe(data, "num_workers=1")), "config.py", folder)
    assert paths == [folder / "kinetics400.png", folder / "imagenet.png"]
    for path in paths:
        picture = pixels(path)
        assert picture.shape[1] > 600 and has_color(picture, YELLOW)
        assert not has_color(picture, RED_CROSS, within=3)


def test_colors_of_the_data_are_on_the_sheet(data: Path, tmp_path: Path) -> None:
    _, path = draw_batches(tiny_recipe(data), "config.py", tmp_path)
    picture = pixels(path)
    assert all(has_color(picture, color, within=40) for color in IMAGE_CLASSES.values())


def test_sheets_of_an_earlier_time_are_replaced(data: Path, tmp_path: Path) -> None:
    paths = draw_batches(tiny_recipe(data), "config.py", tmp_path)
    before = [path.read_bytes() for path in paths]
    assert draw_batches(tiny_recipe(data, "seed=5"), "config.py", tmp_path) == paths
    assert all(path.read_bytes() != old for path, old in zip(paths, before, strict=True))
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_sheets_of_others_are_never_replaced(data: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "imagenet.png")
    before = (tmp_path / "imagenet.png").read_bytes()
    message = r"--pictures .*imagenet\.png: not written by this command, .* move it away, or name another folder"
    with pytest.raises(UserError, match=message):
        draw_batches(tiny_recipe(data), "config.py", tmp_path)
    assert (tmp_path / "imagenet.png").read_bytes() == before
    assert not (tmp_path / "kinetics400.png").exists()


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_file_in_the_place_of_the_folder_is_reported(data: Path, tmp_path: Path, below: str) -> None:
    (tmp_path / "mine").write_text("my own")
    folder = tmp_path / "mine" / below
    message = f"--pictures {folder}: {tmp_path / 'mine'} is no folder that can be written to; name another one"
    with pytest.raises(UserError, match=re.escape(message)):
        draw_batches(tiny_recipe(data), "config.py", folder)


def test_missing_data_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.py: the data is not here"):
        draw_batches(tiny_recipe(tmp_path / "nowhere"), "config.py", tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()


def test_unreadable_file_is_reported_in_place_of_its_sample(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    truncate(next((data / "kinetics400/videos_train/moving left").glob("*.mp4")), 0.1)
    recipe = tiny_recipe(data, "sources.kinetics400.batch_size=12")
    samples = samples_of(recipe, "kinetics400")
    (bad,) = (sample for sample in samples if sample.reason)
    assert len(samples) == 12 and bad.frames is None and bad.key.startswith("moving left/")
    text = caption(4, bad, list(VIDEO_CLASSES))
    assert text.startswith(f"4. moving left\n{bad.key}\ncannot be read: ")
    path, _ = draw_batches(recipe, "config.py", tmp_path / "pictures")
    assert has_color(pixels(path), RED_CROSS, within=3)


def test_what_is_mixed_with_an_unreadable_file_is_still_drawn(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    for path in (data / "imagenet/train").rglob("*.JPEG"):
        path.write_bytes(b"no picture")
    samples = samples_of(augmented(tiny_recipe(data)), "kinetics400")
    assert all(not sample.reason and sample.frames is not None for sample in samples)
    samples = samples_of(augmented(tiny_recipe(data)), "imagenet")
    assert all(sample.reason and sample.frames is None for sample in samples)


def test_caption_has_number_shares_and_keys() -> None:
    clip = torch.zeros((3, 1, 4, 4), dtype=torch.uint8)
    names = ["boxing", "hugging", "kicking"]
    mixed = DrawnSample(clip, None, torch.tensor([0.37, 0.63, 0.0]), 0, "a.mp4 + b.mp4", "")
    assert caption(7, mixed, names) == "7. 0.37 boxing + 0.63 hugging\na.mp4 + b.mp4"
    plain = dataclasses.replace(mixed, label=torch.tensor([0.0, 0.0, 1.0]), own_class=2, key="c.mp4")
    assert caption(1, plain, names) == "1. kicking\nc.mp4"
    assert caption(2, mixed, ["0", "1", "2"]).startswith("2. 0.37 class 0 + 0.63 class 1\n")
