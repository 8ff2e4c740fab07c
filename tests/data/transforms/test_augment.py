"""What augmentation draws, and that Pillow makes the same of the same draws."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from omnisource.data.transforms.augment import (
    NOISE_STD,
    OPERATIONS,
    apply_rand_augment,
    augment,
    draw_operations,
    erase_randomly,
    jitter_colors,
)
from omnisource.data.transforms.boxes import random_box
from omnisource.data.transforms.pixel_operations import MEAN_COLOR
from omnisource.models.backbones.slow_only import IMAGENET
from omnisource.recipe.checks import training_view_faults
from omnisource.recipe.data import ColorJitter, RandAugment, RandomErasing, TrainingView
from omnisource.recipe.values import bound_faults
from tests.data.transforms.test_pixel_operations import Picture, as_one_picture, frame_by_frame, textured

STRONG_JITTER = ColorJitter(brightness=0.4, contrast=0.5, saturation=1.2, hue=0.2)
WITH_HUE = (RandAugment(), STRONG_JITTER, RandomErasing(probability=1, fill="noise"))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestColorJitter:
    @pytest.mark.parametrize("seed", range(12))
    def test_equals_pillow_with_the_same_draws(self, seed: int):
        clip = textured(1)
        settings = dataclasses.replace(STRONG_JITTER, hue=0.0)
        rng = generator(seed)
        rng.random()  # whether: always, with a probability of 1
        order = rng.permutation(4)
        factors = [rng.uniform(0.6, 1.4), rng.uniform(0.5, 1.5), rng.uniform(0.0, 2.2)]
        image = Image.fromarray(clip[:, 0].permute(1, 2, 0).contiguous().numpy())
        for number in order:
            if number < 3:
                enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[number]
                image = enhance(image).enhance(factors[number])
        ours = jitter_colors(clip, settings, generator(seed))
        assert (ours[:, 0].permute(1, 2, 0).numpy() == np.asarray(image)).all()

    def test_is_applied_as_often_as_asked_and_always_draws_the_same_number_of_times(self):
        clip, rng, other = textured(1, 6, 7), generator(1), generator(1)
        never = dataclasses.replace(STRONG_JITTER, probability=0)
        sometimes = dataclasses.replace(STRONG_JITTER, probability=0.3)
        changed = 0
        for _ in range(300):
            changed += not torch.equal(jitter_colors(clip, sometimes, rng), clip)
            assert torch.equal(jitter_colors(clip, never, other), clip)
            assert rng.bit_generator.state == other.bit_generator.state
        assert 58 < changed < 122  # four standard deviations around 90

    def test_leaves_alone_what_has_no_reach(self):
        clip = textured(1)
        assert torch.equal(jitter_colors(clip, ColorJitter(0, 0, 0, 0), generator()), clip)


def pillows(name: str, magnitude: float, sign: int) -> Callable[[Picture], Picture]:
    """Returns an operation of timm's rand-mMAGNITUDE-inc1 as timm has it, by Pillow."""
    share, bilinear = magnitude / 10, Image.Resampling.BILINEAR
    factor = max(0.1, 1.0 + sign * share * 0.9)

    def affine(*matrix: float) -> Callable[[Picture], Picture]:
        kind = Image.Transform.AFFINE
        return lambda image: image.transform(image.size, kind, matrix, resample=bilinear, fillcolor=MEAN_COLOR)

    def brightened(image: Picture) -> Picture:
        return image.point([min(255, level + int(share * 110)) if level < 128 else level for level in range(256)] * 3)

    return {
        "auto contrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "invert": ImageOps.invert,
        "rotate": lambda image: image.rotate(sign * share * 30.0, resample=bilinear, fillcolor=MEAN_COLOR),
        "posterize": lambda image: ImageOps.posterize(image, 4 - int(share * 4)),
        "solarize": lambda image: ImageOps.solarize(image, 256 - min(256, int(share * 256))),
        "solarize add": brightened,
        "saturation": lambda image: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda image: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda image: ImageEnhance.Brightness(image).enhance(factor),
        "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(factor),
        "shear x": affine(1, sign * share * 0.3, 0, 0, 1, 0),
        "shear y": affine(1, 0, 0, sign * share * 0.3, 1, 0),
        # Of 100 x 100 pixels, so that the tested magnitudes move by whole ones.
        "translate x": affine(1, 0, sign * round(share * 0.45 * 100), 0, 1, 0),
        "translate y": affine(1, 0, 0, 0, 1, sign * round(share * 0.45 * 100)),
    }[name]


class TestRandAugment:
    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize("magnitude", [0, 4, 8])
    @pytest.mark.parametrize("name", OPERATIONS)
    def test_operations_are_those_of_timm(self, name: str, magnitude: int, sign: int):
        clip = textured(2, 100, 100)
        of_whole_clip = name in ("auto contrast", "equalize", "contrast")
        reference = (as_one_picture if of_whole_clip else frame_by_frame)(clip, pillows(name, magnitude, sign))
        assert torch.equal(OPERATIONS[name](clip, magnitude / 10, sign), reference)

    def test_operations_of_low_magnitude_change_least(self):
        clip = textured(1, 60, 60)
        for name in OPERATIONS.keys() - {"auto contrast", "equalize", "invert"}:  # these have no magnitude
            changes = [
                (OPERATIONS[name](clip, strength, 1).float() - clip.float()).abs().mean() for strength in (0.1, 0.5, 1)
            ]
            assert changes[0] < min(changes[1:]), name

    def test_strongest_posterizing_leaves_a_picture(self):
        assert OPERATIONS["posterize"](textured(1), 1.0, 1).unique().tolist() == [0, 128]

    @pytest.mark.parametrize("seed", range(10))
    def test_applies_the_operations_that_it_draws_one_after_another(self, seed: int):
        clip = textured(2)
        settings = RandAugment(num_operations=4, magnitude=8.0, magnitude_std=2.0, probability=0.7)
        rng, expected = generator(seed), clip
        for _ in range(4):
            name = list(OPERATIONS)[rng.integers(15)]
            is_applied, magnitude, is_positive = rng.random() < 0.7, rng.normal(8.0, 2.0), rng.random() < 0.5
            if is_applied:
                expected = OPERATIONS[name](expected, np.clip(magnitude, 0, 10) / 10, 1 if is_positive else -1)
        assert torch.equal(apply_rand_augment(clip, settings, generator(seed)), expected)

    def test_draws_every_operation_equally_often_in_both_directions(self):
        rng, settings = generator(), RandAugment(num_operations=2, magnitude=9.0, magnitude_std=0.5)
        drawn = [draw_operations(settings, rng) for _ in range(3000)]
        counts = Counter((name, direction) for operations in drawn for name, _, direction in operations)
        assert len(counts) == 30
        assert all(60 < count < 140 for count in counts.values())  # 6000 / 2 / 30 = 100, four standard deviations
        assert {len(operations) for operations in drawn} == {0, 1, 2}
        strengths = [strength for operations in drawn for _, strength, _ in operations]
        assert abs(np.mean(strengths) - 0.9) < 0.01 and 0.04 < np.std(strengths) < 0.06
        assert max(strengths) == 1.0  # what lies above is cut off

    def test_draws_the_same_number_of_times_whether_or_not_it_applies_them(self):
        states = []
        for probability, applied in ((0.0, 0), (1.0, 5)):
            rng = generator(3)
            assert len(draw_operations(RandAugment(5, probability=probability), rng)) == applied
            states.append(rng.bit_generator.state)
        assert states[0] == states[1]


class TestRandomErasing:
    def test_erases_one_box_of_all_frames_with_the_mean_color(self):
        clip = textured(4, 50, 70)
        ours = erase_randomly(clip, RandomErasing(probability=1), generator(5))
        changed = (ours != clip).any(dim=0).any(dim=0).numpy()
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        expected = clip.clone()
        for frame in range(4):
            for row in range(rows[0], rows[-1] + 1):
                for column in range(columns[0], columns[-1] + 1):
                    expected[:, frame, row, column] = torch.tensor(MEAN_COLOR)
        assert torch.equal(ours, expected)

    def test_boxes_keep_to_their_areas_and_aspects(self):
        rng, settings = generator(), RandomErasing(min_area=0.05, max_area=0.2, min_aspect=0.5, max_aspect=2.0)
        boxes = np.array([random_box(300, 400, settings, rng, is_smaller=True) for _ in range(3000)])
        areas, aspects = boxes[:, 2] * boxes[:, 3] / (300 * 400), boxes[:, 3] / boxes[:, 2]
        assert 0.049 < areas.min() < 0.051 and 0.199 < areas.max() < 0.201 and abs(areas.mean() - 0.125) < 0.004
        assert 0.49 < aspects.min() < 0.51 and 1.97 < aspects.max() < 2.03 and abs(np.log(aspects).mean()) < 0.03
        assert boxes[:, :2].min() == 0
        assert (boxes[:, 0] + boxes[:, 2]).max() == 300 and (boxes[:, 1] + boxes[:, 3]).max() == 400

    def test_box_is_smaller_than_the_frame_or_there_is_none(self):
        settings = RandomErasing(min_area=0.9, max_area=0.99, min_aspect=0.01, max_aspect=0.02)
        assert random_box(30, 30, settings, generator(), is_smaller=True) is None
        clip = textured(1, 30, 30)
        assert torch.equal(erase_randomly(clip, dataclasses.replace(settings, probability=1), generator()), clip)

    def test_is_applied_as_often_as_asked(self):
        clip, rng = textured(1, 20, 20), generator()
        erased = sum(erase_randomly(clip, RandomErasing(), rng) is not clip for _ in range(1000))
        assert 195 < erased < 305  # four standard deviations around 250

    def test_random_color_is_one_and_noise_is_many_but_the_same_in_all_frames(self):
        clip = torch.full((3, 3, 60, 60), 1, dtype=torch.uint8)
        for fill, colors in (("color", 1), ("noise", 100)):
            settings = RandomErasing(1.0, 0.2, 0.3, 0.5, 2.0, fill)  # type: ignore[arg-type]
            ours = erase_randomly(clip, settings, generator(1))
            assert (ours == ours[:, :1]).all()
            erased = ours[:, 0][:, (ours[:, 0] != 1).any(dim=0)]
            found = len(erased.unique(dim=1).T)
            assert found == colors if fill == "color" else found > colors

    def test_noise_is_normal_after_normalizing_but_for_what_is_cut_off(self):
        clip = torch.zeros((3, 1, 400, 400), dtype=torch.uint8)
        settings = RandomErasing(1.0, 0.3, 0.33, 0.9, 1.1, "noise")
        rng = generator(2)
        rng.random()  # whether: always, with a probability of 1
        box = random_box(400, 400, settings, rng, is_smaller=True)
        assert box is not None
        top, left, height, width = box
        pixels = erase_randomly(clip, settings, generator(2))[:, 0, top : top + height, left : left + width]
        mean, std = torch.tensor(IMAGENET.mean)[:, None], torch.tensor(IMAGENET.std)[:, None]
        assert IMAGENET.std == NOISE_STD
        normalized = (pixels.flatten(1).double() - mean) / std
        # Cut off at about -2 and 2.4 standard deviations, and rounded to whole levels.
        assert normalized.mean(dim=1).abs().max() < 0.03
        assert ((normalized.std(dim=1) - 0.97).abs() < 0.03).all()
        assert np.abs(np.corrcoef(normalized.numpy())[~np.eye(3, dtype=bool)]).max() < 0.02  # channels by themselves


class TestAugment:
    def test_without_settings_nothing_changes_and_nothing_is_drawn(self):
        clip, rng = textured(2), generator()
        assert augment(clip, None, None, None, rng) is clip
        assert rng.bit_generator.state == generator().bit_generator.state

    def test_does_one_after_another(self):
        clip, rng = textured(2), generator(8)
        expected = apply_rand_augment(clip, WITH_HUE[0], rng)
        expected = jitter_colors(expected, WITH_HUE[1], rng)
        expected = erase_randomly(expected, WITH_HUE[2], rng)
        assert torch.equal(augment(clip, *WITH_HUE, generator(8)), expected)

    def test_equal_frames_stay_equal_and_every_clip_is_a_valid_one(self):
        clip = textured(1).repeat(1, 5, 1, 1)
        strong = (RandAugment(4, 10.0, probability=1.0), *WITH_HUE[1:])
        for seed in range(40):
            result = augment(clip, *strong, generator(seed))
            assert (result == result[:, :1]).all()
            assert result.shape == clip.shape and result.dtype == torch.uint8 and result.is_contiguous()

    def test_an_image_gets_what_a_clip_of_it_gets(self):
        image = textured(1)
        for seed in range(10):  # without RandAugment: Pillow's equalizing counts in whole steps of the number of pixels
            alone = augment(image, None, *WITH_HUE[1:], generator(seed))
            assert torch.equal(augment(image.repeat(1, 3, 1, 1), None, *WITH_HUE[1:], generator(seed))[:, :1], alone)

    def test_depends_on_nothing_but_its_generator(self):
        clip = textured(2)
        first = augment(clip, *WITH_HUE, generator(4))
        torch.rand(1)
        np.random.default_rng().random()
        assert torch.equal(first, augment(clip, *WITH_HUE, generator(4)))
        assert not torch.equal(first, augment(clip, *WITH_HUE, generator(5)))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (RandAugment(magnitude=10.5), "rand_augment.magnitude=10.5: must be in [0, 10]"),
        (RandAugment(num_operations=16), "rand_augment.num_operations=16: must be in [0, 15]"),
        (RandAugment(magnitude_std=-1), "rand_augment.magnitude_std=-1: must be in [0, 10]"),
        (RandAugment(probability=1.5), "rand_augment.probability=1.5: must be in [0, 1]"),
        (ColorJitter(brightness=-0.1), "color_jitter.brightness=-0.1: must be at least 0"),
        (ColorJitter(hue=0.6), "color_jitter.hue=0.6: must be in [0, 0.5]"),
        (ColorJitter(probability=-1), "color_jitter.probability=-1: must be in [0, 1]"),
        (RandomErasing(probability=2), "random_erasing.probability=2: must be in [0, 1]"),
        (RandomErasing(min_area=0), "random_erasing: needs 0 < min_area <= max_area < 1, has 0 and 0.333333"),
        (RandomErasing(max_area=1), "random_erasing: needs 0 < min_area <= max_area < 1, has 0.02 and 1"),
        (RandomErasing(min_aspect=4), "random_erasing: needs 0 < min_aspect <= max_aspect, has 4 and 3.33333"),
    ],
)
def test_impossible_numbers_are_reported(settings: RandAugment | ColorJitter | RandomErasing, fault: str) -> None:
    view = TrainingView(**{fault.partition(".")[0].partition(":")[0]: settings})  # type: ignore[arg-type]
    assert [*bound_faults(view, "view."), *training_view_faults("view", view)] == [f"view.{fault}"]


def test_defaults_are_without_fault() -> None:
    view = TrainingView(rand_augment=RandAugment(), color_jitter=ColorJitter(), random_erasing=RandomErasing())
    assert [*bound_faults(view, "view."), *training_view_faults("view", view)] == []
